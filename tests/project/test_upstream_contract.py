"""What this package relies on in other libraries without their promise: private methods, and texts of messages.

A release that changes one of these fails here with a sentence, and not somewhere in a run.
"""

import inspect

import accelerate
import datasets
import pytest
import torch
import transformers
from transformers import BertConfig, BertModel, PreTrainedModel, Trainer, TrainingArguments
from transformers.masking_utils import create_bidirectional_mask

from videomae_hf.training.trainer import VideoMAETrainer


# Methods of the Trainer that VideoMAETrainer overrides, with the parameters that it passes on, and why
OVERRIDDEN = {
    "_get_train_sampler": (["train_dataset"], "an epoch has whole optimizer steps alone"),
    "_get_grad_norm": ([], "a gradient that is not finite is reported with its videos"),
    "_maybe_log_save_evaluate": ([], "a run that was asked to stop leaves after it has saved"),
    "_save_checkpoint": (["model", "trial"], "a checkpoint is complete or not there"),
    "_save_optimizer_and_scheduler": (["output_dir"], "FSDP2 saves whole states"),
    "_load_optimizer_and_scheduler": (["checkpoint"], "FSDP2 loads whole states"),
    "_save_rng_state": (["output_dir"], "the last file that every process writes"),
    "_load_from_checkpoint": (["resume_from_checkpoint", "model"], "the average of the weights is loaded, too"),
    "_load_best_model": ([], "the average of the weights is loaded, too"),
    "_push_from_checkpoint": (["checkpoint_folder"], "a checkpoint is uploaded once it is complete"),
    "_finish_current_push": ([], "a run waits for its uploads"),
    "init_hf_repo": (["token", "private"], "a run that may not upload ends before it trains"),
    "create_scheduler": (["num_training_steps", "optimizer"], "the official warmup and cosine"),
    "create_optimizer": ([], "parameter groups with layer decay"),
    "get_batch_samples": ([], "the time spent waiting for data"),
    "training_step": ([], "the losses of a step"),
    "evaluation_loop": (["metric_key_prefix"], "the average of the weights, and k-NN"),
    "save_model": (["output_dir", "_internal_call"], "the average of the weights is saved, too"),
    "push_to_hub": (["commit_message", "blocking", "token", "revision"], "public files alone are uploaded"),
    "compute_loss": (["model", "inputs", "return_outputs"], "distillation"),
}
# Private methods that are called
CALLED = [
    (Trainer, "_get_output_dir"),
    (PreTrainedModel, "_init_weights"),
    (PreTrainedModel, "prepare_distribute_model"),
    (PreTrainedModel, "maybe_distribute_model"),
]
# Texts that are looked for in errors, warnings and logs: where, the text, and what they decide
TEXTS = [
    (torch.utils.data._utils.signal_handling, "_error_if_any_worker_fails", "a worker killed for memory is named"),
    (torch.utils.data._utils.worker, "in DataLoader worker process", "an error of a video is told from a dead worker"),
    (transformers.modeling_utils, "is_gradient_checkpointing", "a warning that peft causes is not shown"),
]


def test_bert_comes_apart_as_videobert_takes_it():
    """VideoBertModel calls the embeddings and the layers of BERT itself, each layer with a mask of its own."""
    bert = BertModel(BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8))
    assert {name.split(".")[0] for name, _ in bert.named_parameters()} == {"embeddings", "encoder", "pooler"}
    (layer,) = bert.encoder.layer
    assert list(inspect.signature(layer.forward).parameters)[:2] == ["hidden_states", "attention_mask"]
    states = torch.zeros(1, 2, 8)
    assert layer(states, torch.ones(1, 1, 2, 2, dtype=torch.bool)).shape == states.shape  # no tuple
    wanted = {"inputs_embeds", "position_ids", "token_type_ids"}
    assert wanted <= inspect.signature(bert.embeddings.forward).parameters.keys()
    assert "and_mask_function" in inspect.signature(create_bidirectional_mask).parameters


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods(name):
    parameters, reason = OVERRIDDEN[name]
    method = getattr(Trainer, name, None)
    assert method is not None, f"transformers {transformers.__version__} has no Trainer.{name}: {reason} no more."
    known = inspect.signature(method).parameters
    variadic = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    missing = [parameter for parameter in parameters if parameter not in known and not variadic]
    assert not missing, f"Trainer.{name} of transformers {transformers.__version__} has no {missing}: {reason}."


def test_the_list_of_overridden_methods_is_complete():
    own = {name for name, value in vars(VideoMAETrainer).items() if inspect.isfunction(value)}
    private = {name for name in own if name.startswith("_") and hasattr(Trainer, name)} - {"__init__"}
    assert private <= set(OVERRIDDEN)


@pytest.mark.parametrize("owner, name", CALLED, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_called_methods(owner, name):
    if name.endswith("distribute_model") and not hasattr(transformers, "distributed"):
        pytest.skip("before fsdp2")
    assert hasattr(owner, name), f"transformers {transformers.__version__} has no {owner.__name__}.{name} any more."


@pytest.mark.parametrize("module, text, reason", TEXTS, ids=lambda value: value if isinstance(value, str) else "")
def test_texts_of_messages(module, text, reason):
    assert text in inspect.getsource(module), f"{module.__name__} does not say {text!r} any more: {reason}."


def test_the_report_of_loading_is_found_by_its_title():
    logs = inspect.getsource(transformers.utils.loading_report)
    assert "LOAD REPORT" in logs, "transformers names its table of differing weights otherwise: it would be printed."


def test_a_refused_pickle_names_the_class():
    source = inspect.getsource(torch._weights_only_unpickler)
    assert "GLOBAL {" in source, "torch names refused classes otherwise: the message would not say which."


def test_rows_are_not_decoded_by_datasets():
    assert isinstance(datasets.config.TORCHCODEC_AVAILABLE, bool)


def test_arguments_that_are_looked_at():
    args = {spec for spec in TrainingArguments.__dataclass_fields__}
    names = {"label_smoothing_factor", "ddp_timeout", "train_sampling_strategy", "hub_strategy", "use_cpu"}
    assert names <= args, f"transformers {transformers.__version__} has no {names - args}."


def test_accelerate_tells_the_kind_of_distribution():
    assert {"FSDP", "DEEPSPEED", "MULTI_CPU"} <= {kind.name for kind in accelerate.DistributedType}
