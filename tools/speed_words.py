"""What the tables of speed_tables.py say, by language."""

from __future__ import annotations

WORDS = {
    "en": {
        "first": "first",
        "second": "second",
        "workload": "workload",
        "order": "order",
        "floor": "times the floor",
        "left_out": "left out: {}",
        "18 GB": "it takes 18 GB of memory",
        "note": (
            "Milliseconds per meta-gradient, median, and the slowdown relative to ours. Floor: "
            "the multiply-adds of the layers at the best rate of a matrix product during the "
            "measurements. Two threads of an {processor} ({gflops} GFLOP/s), PyTorch {torch}. *: "
            "not quite the same gradient, see below."
        ),
        "note_gpu": (
            "Milliseconds per meta-gradient, median, and the slowdown relative to ours. Floor: as "
            "above, at the rate of an 8192 x 8192 float32 product. {gpu}, PyTorch {{torch}}."
        ),
        "precision_head": "| `precision` | accuracy in %, two seeds | ms an iteration |",
        "precision_note": (
            "`maml-5way-1shot` after {iterations:,} iterations, 600 test tasks, 95% interval over "
            "tasks. {gpu}, PyTorch {{torch}}."
        ),
        "two_threads": "Two threads of {processor}",
        "short_head": (
            "| first / second order | ms | fastest alternative | fastest library | "
            "the tutorial's loop |"
        ),
        "A": "A: 5-way 1-shot, tutorial's network, 8 tasks, 15 queries, 5 steps",
        "B": "B: 5-way 1-shot, Conv4, 32 tasks, 1 query, 1 step",
        "C": "C: 20-way 1-shot, Conv4, 16 tasks, 1 query, 5 steps",
        "D": "D: 5-way 5-shot, 84 x 84 colour, Conv4, 4 tasks, 15 queries, 5 steps",
        "short_note": (
            "Milliseconds per meta-gradient, then the slowdown of the fastest alternative, of the "
            "fastest task-by-task library, and of the tutorial's loop (first order only). *: not "
            "quite the same gradient. Two threads of an {processor} ({gflops} GFLOP/s), PyTorch "
            "{torch}."
        ),
        "fails": "fails",
        "best_other": "the best of these / innerloop",
        "own_note": (
            "Milliseconds of one meta-gradient, median of turns in one run. Two threads of an "
            "{processor} ({gflops} GFLOP/s), PyTorch {torch}."
        ),
        "own_note_intel": (
            "The time of the best of the others divided by ours, medians of turns in one run. Two "
            "threads of an {processor} ({gflops} GFLOP/s), PyTorch {torch}."
        ),
        "own_note_gpu": (
            "Milliseconds of one meta-gradient, median of turns in one run; ours from a recording, "
            "as in training. {gpu}, PyTorch {{torch}}."
        ),
        "threads_head": (
            "| ms by number of threads | {} | two by one | by PyTorch's operators, two |"
        ),
        "fit of five drawings": "`FewShotClassifier.fit` of five drawings",
        "step of MAML++": "a training step of MAML++",
        "task": "`{}`, {} task{}",
        "threads_note": "Two cores of an {processor}, PyTorch {torch}.",
        "statistics_head": (
            "| ms of a meta-gradient | `bn: support` | `bn: transductive` | "
            "`bn: support` by PyTorch's operators |"
        ),
        "emoji": "the preset `emoji`",
        "five steps": "`Conv4`, five steps, all weights",
        "residual": "ResNet-12 in `torch.nn`, 32 x 32 in colour, two steps",
        "statistics_note": (
            "Medians of turns in one run. Two threads of an {processor}, PyTorch {torch}."
        ),
        "scaling_head": "| processes | tasks a step | ms a step | all-reduce alone, ms | |",
        "one": "",
        "strong": "{speed_up:.2f} times as fast",
        "weak": "{efficiency:.0%} of the rate a process",
        "prediction_head": "| ms that a GPU computes a step | {} |",
        "gpus": "{} GPUs",
        "episodes": "episodes",
        "innerloop, turned classes": "innerloop, turned",
        "over_cache": "times the cache (/ turned)",
        "share_head": "| preset | sampling, ms | whole step, ms | share |",
        "startup_head": "| command | seconds | loads |",
        "accuracy_head": "| seconds until validation accuracy | {} | ms a step | at the end |",
        "quick": "`quick` recipe",
        "finn2017": "`finn2017` preset",
        "tutorial": "the tutorial's loop",
        "never": "not in {:.0f} s",
    },
    "zh": {
        "first": "一阶",
        "second": "二阶",
        "workload": "任务",
        "order": "阶",
        "floor": "下限的倍数",
        "left_out": "未测：{}",
        "18 GB": "需要 18 GB 内存",
        "note": (
            "一次元梯度的毫秒数（中位数），以及它是我们用时的多少倍。下限：各层的乘加运算次数"
            "除以测量期间见到的最快的矩阵乘法速度。"
            "{processor} 的两个线程（{gflops} GFLOP/s），PyTorch {torch}。"
            "*：并非完全相同的梯度，见下文。"
        ),
        "note_gpu": (
            "一次元梯度的毫秒数（中位数），以及它是我们用时的多少倍。下限同上，按 8192 x 8192 "
            "单精度矩阵乘法的速度计算。{gpu}，PyTorch {{torch}}。"
        ),
        "precision_head": "| `precision` | 准确率（%），两个种子 | 每次迭代毫秒 |",
        "precision_note": (
            "`maml-5way-1shot` 训练 {iterations:,} 次迭代之后，600 个测试任务，95% 置信区间按任务"
            "计算。{gpu}，PyTorch {{torch}}。"
        ),
        "two_threads": "{processor} 的两个线程",
        "short_head": "| 一阶 / 二阶 | 毫秒 | 最快的其他写法 | 最快的库 | 教程的循环 |",
        "A": "A: 5-way 1-shot，教程的网络，8 个任务，15 个查询，5 步",
        "B": "B: 5-way 1-shot，Conv4，32 个任务，1 个查询，1 步",
        "C": "C: 20-way 1-shot，Conv4，16 个任务，1 个查询，5 步",
        "D": "D: 5-way 5-shot，84 x 84 彩色，Conv4，4 个任务，15 个查询，5 步",
        "short_note": (
            "一次元梯度的毫秒数，以及其他写法用时是它的多少倍：其中最快的，逐任务计算的库中最快的，"
            "以及教程的循环（只有一阶）。*：并非完全相同的梯度。"
            "{processor} 的两个线程（{gflops} GFLOP/s），PyTorch {torch}。"
        ),
        "fails": "失败",
        "best_other": "其中最快的 / innerloop",
        "own_note": (
            "一次元梯度的毫秒数：同一次测量中轮流计时，取中位数。"
            "{processor} 的两个线程（{gflops} GFLOP/s），PyTorch {torch}。"
        ),
        "own_note_intel": (
            "其他实现中最快者的用时除以我们的用时：同一次测量中轮流计时，取中位数。"
            "{processor} 的两个线程（{gflops} GFLOP/s），PyTorch {torch}。"
        ),
        "own_note_gpu": (
            "一次元梯度的毫秒数：同一次测量中轮流计时，取中位数；我们的重放录制好的步骤，与训练时相同。"
            "{gpu}，PyTorch {{torch}}。"
        ),
        "threads_head": "| 毫秒，用这么多线程 | {} | 两个比一个 | 用 PyTorch 的运算，两个线程 |",
        "fit of five drawings": "`FewShotClassifier.fit`，五张图",
        "step of MAML++": "MAML++ 的一个训练步",
        "task": "`{}`，{} 个任务",
        "threads_note": "{processor} 的两个核心，PyTorch {torch}。",
        "statistics_head": (
            "| 一次元梯度的毫秒数 | `bn: support` | `bn: transductive` | "
            "`bn: support`，用 PyTorch 的运算 |"
        ),
        "emoji": "预设 `emoji`",
        "five steps": "`Conv4`，五步，更新所有权重",
        "residual": "用 `torch.nn` 写的 ResNet-12，32 x 32 彩色，两步",
        "statistics_note": (
            "同一次运行中轮流测量的中位数。{processor} 的两个线程，PyTorch {torch}。"
        ),
        "scaling_head": "| 进程数 | 每步任务数 | 每步毫秒 | 仅 all-reduce，毫秒 | |",
        "one": "",
        "strong": "快 {speed_up:.2f} 倍",
        "weak": "每个进程保持 {efficiency:.0%} 的速度",
        "prediction_head": "| 每个 GPU 每步的计算毫秒数 | {} |",
        "gpus": "{} 个 GPU",
        "episodes": "任务（episode）",
        "innerloop, turned classes": "innerloop，旋转",
        "the tutorial's cache": "教程代码的缓存",
        "a mere copy": "单纯的复制",
        "DataLoader, no workers": "DataLoader，不开子进程",
        "DataLoader, 2 workers": "DataLoader，2 个子进程",
        "over_cache": "缓存的倍数（/ 旋转）",
        "share_head": "| 预设 | 采样，毫秒 | 整步，毫秒 | 占比 |",
        "startup_head": "| 命令 | 秒 | 载入 |",
        "accuracy_head": "| 验证准确率达到所需秒数 | {} | 每步毫秒 | 结束时 |",
        "quick": "`quick` 配方",
        "finn2017": "`finn2017` 预设",
        "tutorial": "教程的循环",
        "never": "{:.0f} 秒内未达到",
    },
}
