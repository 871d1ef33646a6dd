"""The settings that suit each algorithm, and sine waves, where those of `TrainConfig` do not."""

from __future__ import annotations

from typing import Any

# How the recipe of an algorithm differs from that of MAML; chosen on validation tasks.  Where steps
# cost more, a narrower network takes more of them in the same time, and comes out ahead.
RECIPES: dict[str, dict[str, Any]] = {
    "anil": {"inner_steps": 3, "inner_lr": 0.01},
    "boil": {
        "width": 32,
        "head": "random",
        "train_n_way": None,
        "inner_lr": 0.2,
        "meta_batch_size": 4,
    },
    "reptile": {
        "width": 32,
        "inner_lr": 0.1,
        "inner_steps": 5,
        "inner_reduction": "mean",
        "k_query": 9,
        "train_n_way": None,
        "meta_batch_size": 5,
    },
    "maml++": {
        "width": 32,
        "inner_steps": 2,
        "eval_inner_steps": 2,
        "meta_batch_size": 1,
        "second_order_from": 0.4,
    },
    "imaml": {"width": 32, "inner_steps": 3, "cg_steps": 2, "meta_batch_size": 1},
    "protonet": {"width": 32, "unit_features": False, "meta_lr": 3e-3},
    "fine-tune": {
        "width": 32,
        "k_query": 1,
        "meta_batch_size": 3,
        "inner_steps": 20,
        "eval_inner_steps": 20,
    },
}

# MAML's sinusoid experiment (Finn et al. 2017, section 5.1, and its code).
SINUSOID: dict[str, Any] = {
    "split": "none",
    "k_shot": 10,
    "k_query": 10,
    "eval_k_query": 100,
    "train_n_way": None,
    "rotate": False,
    "model": "mlp",
    "width": 40,
    "head": "linear",
    "unit_features": False,
    "inner_lr": 0.01,
    "inner_steps": 1,
    "eval_inner_steps": 10,
    "inner_reduction": "mean",
    "iterations": 5000,
    "meta_batch_size": 25,
    "meta_lr": 1e-2,
    "clip_norm": None,
    "val_every": 500,
    "val_tasks": 200,
}

# By the name of data whose targets are numbers, not classes: there tasks are regression.
REGRESSION: dict[str, dict[str, Any]] = {"sinusoid": SINUSOID}

# What differs for other algorithms: a single step of Reptile would be ordinary training.
REGRESSION_RECIPES: dict[str, dict[str, Any]] = {
    "boil": {"head": "random"},
    "reptile": {"inner_steps": 5, "inner_batch_size": 10},
    "maml++": {"inner_steps": 5},
    "imaml": {"inner_steps": 5},
    "fine-tune": {"inner_steps": 10},
}

# For features of a pretrained body: the network is a linear map of them.
BODY: dict[str, Any] = {
    "model": "embedding",
    "width": 512,
    "inputs": "raw",
    "rotate": False,
    "iterations": 500,
    "meta_batch_size": 4,
    "meta_lr": 1e-3,
    "val_every": 100,
}
# Chosen on the validation classes of emoji.
BODY_RECIPES: dict[str, dict[str, Any]] = {
    "maml": {"inner_lr": 0.3},
    "anil": {"inner_lr": 0.2},
    "meta-sgd": {"inner_lr": 0.3},
    "protonet": {"distance": "cosine"},
}

# What suits a network or data of one's own, for which nothing is known: no head that takes any
# number of classes, no more ways in training than in the test, images as they are.
OWN: dict[str, dict[str, Any]] = {
    "model": {"head": "linear", "train_n_way": None, "unit_features": False},
    "data": {"train_n_way": None, "rotate": False, "inputs": "unit"},
}
