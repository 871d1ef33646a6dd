"""The words in pictures, in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from innerloop.errors import UserError

Language = Literal["en", "zh"]
Say = Callable[..., str]

# Titles of test episodes.
PREDICTED = (
    "Test task {number}, support set in blue frames. Predicted class: "
    "{wrong} of {queries} queries wrong"
)
ADAPTED = (
    "Test task {number}, support set in blue frames. Predicted class before → after {steps} "
    "inner steps: {before} → {wrong} of {queries} queries wrong"
)

# English and Chinese.  What stands in braces is filled in: numbers, names, other entries.
CHINESE = {
    "Learning": "学习过程",
    "outer iteration": "外循环迭代",
    "inner step": "内循环步",
    "training": "训练",
    "training query loss": "训练任务的查询损失",
    "query loss": "查询损失",
    "query accuracy": "查询准确率",
    "query {metric} (95% interval)": "查询{metric}（95% 置信区间）",
    "validation {metric} (95% interval)": "验证{metric}（95% 置信区间）",
    "accuracy": "准确率",
    "loss": "损失",
    "chance": "随机猜测",
    "Test: {tasks} tasks": "测试：{tasks} 个任务",
    "Test: {what}, {tasks} tasks": "测试：{what}，{tasks} 个任务",
    "regression": "回归",
    "Test task {number}": "测试任务 {number}",
    "truth": "真实曲线",
    "before": "适应之前",
    "after 1 step": "1 步之后",
    "after {steps} steps": "{steps} 步之后",
    "support points": "支持样本",
    "class {way}": "类别 {way}",
    PREDICTED: "测试任务 {number}，蓝框为支持集。预测的类别：{queries} 个查询样本错 {wrong} 个",
    ADAPTED: "测试任务 {number}，蓝框为支持集。{steps} 个内循环步之前 → 之后预测的类别："
    "{queries} 个查询样本错 {before} → {wrong} 个",
    "Learning: {metric} on validation tasks (95% interval)": "学习过程：验证任务的{metric}"
    "（95% 置信区间）",
    "Test: {metric} against inner steps (95% interval)": "测试：{metric}随内循环步数的变化"
    "（95% 置信区间）",
    "{run}: {algorithm}, not finished": "{run}：{algorithm}，未完成",
    "{run}: {what}, {tasks} tasks: {value}": "{run}：{what}，{tasks} 个任务：{value}",
    "support set": "支持集",
    "queries": "查询图片",
    "queries (the first {shown} of {all})": "查询图片（共 {all} 张，显示前 {shown} 张）",
    ", with the {bars} most probable of {all} classes": "，{all} 个类别中最可能的 {bars} 个",
    "the first {shown} of {all}": "共 {all} 张，显示前 {shown} 张",
    "{file}: none of these": "{file}：都不是",
}


def words(language: Language) -> Say:
    """A function that says an entry of the table in `language`.

    Args:
        language: en or zh.

    Returns:
        `say(entry, **values)`, the entry with its values filled in.  A value that is itself an
        entry, such as accuracy, is not translated: say it first.

    Raises:
        UserError: another language.
    """
    if language not in ("en", "zh"):
        raise UserError(f"pictures have labels in en or zh, not in {language!r}")

    def say(entry: str, **values: Any) -> str:
        return (CHINESE[entry] if language == "zh" else entry).format(**values)

    return say


def of_metric(say: Say, metric: str) -> str:
    """The name of a metric, which may be a user's own."""
    return say(metric) if metric in CHINESE else metric


ENGLISH = words("en")
