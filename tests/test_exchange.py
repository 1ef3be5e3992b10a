"""Models to and from diffusers: the same outputs, the same bits back, every refusal in one line."""

import hashlib
import json
import shutil
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from problems import ddpm_network, later, resolve
from safetensors.torch import load_file, save_file
from torch import nn
from workspace import ROOT, copy_project

from pipeline.diffusers.config import _DEFAULTS, _FIXED, read_config, write_config
from pipeline.diffusers.exchange import derive_arm, print_import
from pipeline.diffusers.exports import export_folder
from pipeline.diffusers.imports import convert_folder, convert_import, fill_network, read_folder
from pipeline.diffusers.weights import from_diffusers, to_diffusers
from pipeline.run.outputs import write_weights
from pipeline.schema.compute import Compute
from pipeline.schema.resolved import describe_run
from pipeline.schema.study import load_study_spec
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmSpec, Import
from pipeline.studies.ddpm.unet import UNet

pytestmark = pytest.mark.slow
SPEC = load_study_spec(ROOT, "ddpm")
assert isinstance(SPEC, DdpmSpec)
DIFFUSION = resolve("ddpm").diffusion
CHANNELS = ddpm_network().channels
"""Of the digits' baseline, whose groups are more than one."""
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
UNEVEN = {"channels": 8, "channel_multipliers": [1, 3, 2], "blocks": 2, "attention_sizes": [16, 4]}


def make_unet(network: DdpmNetwork, channels: int, size: int) -> UNet:
    """With no layer near zero, so that each of them counts in the output."""
    torch.manual_seed(0)
    unet = UNet(network, channels, size, 1000).eval()
    for name, value in unet.named_parameters():
        if name.endswith(("conv2.weight", "project.weight", "conv_out.weight")):
            nn.init.normal_(value, std=0.05)
        elif name.endswith("bias") or "norm" in name:
            nn.init.normal_(value, mean=float(name.endswith("weight")), std=0.1)
    return unet


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run folder of the digits as a training leaves it: two snapshots, the second all the network's own."""
    run = resolve("ddpm")
    weights = dict(make_unet(run.network, 1, 8).named_parameters())
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(describe_run(run, Compute()))
    write_weights(folder / "ema-0000250.safetensors", {name: value * 2 for name, value in weights.items()})
    write_weights(folder / "ema-0000500.safetensors", weights)
    return folder


@pytest.fixture
def exported(trained: Path, tmp_path: Path) -> Path:
    export_folder(trained, None, later("digits", "sampling"), tmp_path / "out")
    return tmp_path / "out"


def import_digits(folder: Path, arm: str = "baseline", size: int = 8, **fields: Any) -> dict[str, torch.Tensor]:
    entry = Import(folder=str(folder), sha256=read_sha(folder))
    return convert_import(entry, ddpm_network("digits", arm, **fields), DIFFUSION, 1, size, ROOT)


def read_sha(folder: Path) -> str:
    return read_folder(folder, 8).sha256


def edit_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize(
    ("dataset", "channels", "size", "fields"),
    [
        ("cifar10", 3, 32, {}),
        ("cifar10", 3, 32, {"up_attention": "each"}),
        ("digits", 1, 8, {}),
        ("digits", 1, 8, {"up_attention": "each", "groups": 1}),
        ("digits", 2, 16, UNEVEN),
        ("digits", 2, 16, UNEVEN | {"up_attention": "each", "attention_sizes": []}),
    ],
)
def test_diffusers_computes_what_our_unet_computes(dataset: str, channels: int, size: int, fields: dict):
    network = ddpm_network(dataset, **fields)
    ours = make_unet(network, channels, size)
    theirs = UNet2DModel.from_config(write_config(network, channels, size)).eval()
    weights = to_diffusers(ours.state_dict(), network, size)
    theirs.load_state_dict(weights, strict=True)
    x, level = torch.randn(2, channels, size, size), torch.tensor([3.0, 977.0])
    with torch.no_grad():
        expected = theirs(x, level).sample
        # In float64, too: both have the sinusoid's phase, up to 977, in float32, which is 6e-5 at most.
        torch.testing.assert_close(ours(x, level), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert expected.std() > 0.05
    back = from_diffusers(weights, network, channels, size)
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in ours.state_dict().items())


def test_our_table_of_defaults_is_that_of_diffusers():
    given = {name: one.default for name, one in signature(UNet2DModel.__init__).parameters.items() if name != "self"}
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    assert defaults == _DEFAULTS


def test_every_norm_has_the_epsilon_that_the_configuration_states():
    norms = [part for part in UNet(ddpm_network(), 1, 8, 1000).modules() if isinstance(part, nn.GroupNorm)]
    assert {norm.eps for norm in norms} == set(_FIXED["norm_eps"])


def test_an_exported_run_is_loaded_by_diffusers(exported: Path, trained: Path, recwarn: pytest.WarningsRecorder):
    pipe = DDPMPipeline.from_pretrained(exported)
    _, info = UNet2DModel.from_pretrained(exported / "unet", output_loading_info=True)
    assert not any(info.values()), info
    ours = UNet(ddpm_network(), 1, 8, 1000).eval()
    ours.load_state_dict(load_file(trained / "ema-0000500.safetensors"))
    x, level = torch.randn(2, 1, 8, 8), torch.tensor([0.0, 640.0])
    with torch.no_grad():
        torch.testing.assert_close(pipe.unet(x, level).sample, ours(x, level), atol=1e-5, rtol=0)
    assert isinstance(pipe.scheduler, DDPMScheduler)
    assert (pipe.scheduler.config.variance_type, pipe.scheduler.config.clip_sample) == ("fixed_small", False)
    torch.testing.assert_close(pipe.scheduler.betas, torch.linspace(1e-4, 0.02, 1000))
    assert pipe(batch_size=1, num_inference_steps=2, output_type="np").images.shape == (1, 8, 8, 1)
    assert not [one for one in recwarn if "diffusers" in str(one.filename)]


def test_a_model_comes_back_bit_for_bit(exported: Path, trained: Path):
    weights = import_digits(exported)
    original = load_file(trained / "ema-0000500.safetensors")
    assert weights.keys() == original.keys()
    assert all(torch.equal(weights[name], value) for name, value in original.items())
    assert fill_network(read_folder(exported, 8), ddpm_network()) == ddpm_network()


def test_a_snapshot_is_exported_by_its_step(trained: Path, tmp_path: Path):
    sampling = later("digits", "sampling")
    assert export_folder(trained, 250, sampling, tmp_path / "a").name == "ema-0000250.safetensors"
    first, last = (load_file(path) for path in sorted(trained.glob("ema-*")))
    assert torch.equal(load_file(tmp_path / "a" / WEIGHTS)["conv_in.weight"], first["conv_in.weight"])
    assert not torch.equal(first["conv_in.weight"], last["conv_in.weight"])
    with pytest.raises(ValueError, match=r"step = 300: .* has 250, 500"):
        export_folder(trained, 300, sampling, tmp_path / "b")
    with pytest.raises(ValueError, match="is there already"):
        export_folder(trained, None, sampling, tmp_path / "a")
    with pytest.raises(ValueError, match="no trained model"):
        export_folder(tmp_path / "nothing", None, sampling, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time": "none"}, "time = 'none': diffusers' UNet2DModel adds a timestep embedding at every site"),
        ({"norm": "batch"}, "norm = 'batch': diffusers' UNet2DModel has group normalisation"),
        ({"position": "mlp"}, "position = 'mlp'"),
        ({"groups": 4, "groups_scope": "sites"}, "groups_scope = 'sites'"),
        ({"channel_multipliers": [2, 1]}, "channel_multipliers"),
    ],
)
def test_what_diffusers_cannot_be_is_not_exported(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        write_config(ddpm_network(**fields), 1, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"act_fn": "relu"}, "act_fn = 'relu': our U-Net has 'silu'"),
        ({"norm_eps": 1e-5}, "norm_eps"),
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos"),
        ({"freq_shift": 0}, "freq_shift"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"downsample_type": "resnet"}, "downsample_type"),
        ({"upsample_type": "resnet"}, "upsample_type"),
        ({"downsample_padding": 1}, "downsample_padding"),
        ({"mid_block_scale_factor": 1.4}, "mid_block_scale_factor"),
        ({"mid_block_type": None}, "mid_block_type"),
        ({"add_attention": False}, "add_attention"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"num_class_embeds": 10}, "num_class_embeds"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"time_embedding_dim": 7}, f"time_embedding_dim = 7: {4 * CHANNELS} is needed"),
        ({"attention_head_dim": 8}, "attention_head_dim = 8: our attention has a single head"),
        ({"attn_norm_num_groups": 8}, "attn_norm_num_groups = 8"),
        ({"norm_num_groups": None}, "norm_num_groups = None: a whole number"),
        ({"layers_per_block": True}, "layers_per_block = True: a whole number"),
        ({"block_out_channels": [16, 24]}, "multiples of the first"),
        ({"block_out_channels": "16"}, "block_out_channels"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "our U-Net has DownBlock2D and AttnDownBlock2D"),
        ({"down_block_types": ["DownBlock2D"]}, "block_out_channels has 2 entries"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "not where it is on the way down"),
        ({"out_channels": 2}, "out_channels = 2"),
        ({"sample_size": 9}, "sample_size = 9: not divisible by 2"),
        ({"sample_size": [8, 16]}, "sample_size"),
        ({"encoder_hid_dim": 3}, "encoder_hid_dim = 3: not a key"),
        ({"_class_name": "UNet2DConditionModel"}, "only UNet2DModel"),
    ],
)
def test_what_our_unet_cannot_be_is_refused(exported: Path, values: dict, message: str):
    edit_json(exported / "unet" / "config.json", **values)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(exported, 8)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(exported / "unet" / "config.json"))


def test_a_silent_configuration_means_the_defaults_of_diffusers():
    config = write_config(ddpm_network(), 1, 8)
    del config["flip_sin_to_cos"]
    with pytest.raises(ValueError, match=r"flip_sin_to_cos = True \(the default"):
        read_config(config, 8)
    config = write_config(ddpm_network(), 1, 8) | {"sample_size": None, "attention_head_dim": 2 * CHANNELS}
    del config["dropout"], config["attn_norm_num_groups"], config["upsample_type"]
    structure = read_config(config, 8)
    assert (structure.image_size, structure.fields["attention_sizes"]) == (8, [4])


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["mid_block.resnets.1.conv2.bias"]
    save_file(tensors, folder / WEIGHTS)


def change_tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["conv_out.bias"] = change(tensors["conv_out.bias"])
        save_file(tensors, folder / WEIGHTS)

    return edit


def add_tensor(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "class_embedding.weight": torch.zeros(2)}, folder / WEIGHTS)


def wake_attention(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["up_blocks.0.attentions.0.to_out.0.bias"] += 1
    save_file(tensors, folder / WEIGHTS)


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])


def pickle_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def shard_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.safetensors.index.json")


def edit_scheduler(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "scheduler" / "scheduler_config.json", **values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_tensor, r"mid_block.resnets.1.conv2.bias: this tensor is missing"),
        (add_tensor, r"class_embedding.weight: this tensor is of no layer"),
        (change_tensor(lambda value: value[:, None]), r"conv_out.bias: shape \[1, 1\]; the network needs \[1\]"),
        (change_tensor(lambda value: value * float("nan")), "conv_out.bias: a number in it is not finite"),
        (change_tensor(lambda value: value.int()), r"it holds torch.int32"),
        (wake_attention, "up_attention = 'last': these weights have an attention after each block"),
        (cut_weights, "not safetensors"),
        (pickle_weights, r"diffusion_pytorch_model.bin: a pickle, .* convert it"),
        (shard_weights, "in several files"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS}: the file is missing"),
        (lambda folder: (folder / "unet/config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "unet/config.json").write_text("[1]"), "not a mapping"),
        (lambda folder: (folder / "unet/config.json").write_bytes(b"\xff"), "not JSON"),
        (lambda folder: (folder / "unet/config.json").unlink(), "the file is missing"),
        (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json: the file is missing"),
        (
            lambda folder: edit_json(folder / "unet/config.json", block_out_channels=[CHANNELS, 3 * CHANNELS]),
            "channel_multipliers",
        ),
        (lambda folder: edit_json(folder / "unet/config.json", norm_num_groups=8), "groups = 8; the arm's"),
        (lambda folder: edit_json(folder / "unet/config.json", norm_num_groups=5), "groups = 5 does not divide"),
        (lambda folder: edit_json(folder / "unet/config.json", sample_size=16), r"attention_sizes = \[8\]"),
        (lambda folder: edit_json(folder / "unet/config.json", in_channels=3, out_channels=3), "image_channels = 3"),
        (edit_scheduler(num_train_timesteps=4000), "num_train_timesteps = 4000: the study has 1000"),
        (edit_scheduler(beta_schedule="squaredcos_cap_v2"), "beta_schedule"),
        (edit_scheduler(beta_end=0.03), "beta_end"),
        (edit_scheduler(prediction_type="v_prediction"), "prediction_type"),
        (edit_scheduler(_class_name="ScoreSdeVeScheduler"), "allowed are DDPMScheduler"),
    ],
)
def test_a_folder_that_is_not_the_arms_network_is_refused(exported: Path, damage: Callable, message: str):
    damage(exported)
    with pytest.raises(ValueError, match=message) as error:
        import_digits(exported)
    assert "\n" not in str(error.value)


def test_weights_are_used_only_if_their_checksum_is_the_expected_one(exported: Path):
    entry = Import(folder=str(exported), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"sha256 is .*, expected 0000"):
        convert_import(entry, ddpm_network(), DIFFUSION, 1, 8, ROOT)
    with pytest.raises(ValueError, match="there is no such folder"):
        convert_import(entry.model_copy(update={"folder": "nowhere"}), ddpm_network(), DIFFUSION, 1, 8, ROOT)


def test_a_flat_folder_old_names_and_half_precision_are_read(exported: Path, trained: Path):
    """As google/ddpm-cifar10-32 has them, the oldest of its kind."""
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in load_file(exported / WEIGHTS).items():
        for new, before in renames.items():
            name = name.replace(f".{new}.", f".{before}.")
        old[name] = value.half()
    save_file(old, exported / WEIGHTS)
    for part in ("unet", "scheduler"):
        for path in (exported / part).iterdir():
            path.rename(exported / path.name)
        (exported / part).rmdir()
    weights = import_digits(exported)
    original = load_file(trained / "ema-0000500.safetensors")
    assert all(torch.equal(weights[name], value.half().float()) for name, value in original.items())


def save_diffusers(folder: Path, **values: Any) -> UNet2DModel:
    """A folder that diffusers itself wrote: the digits' network with other fields."""
    config = write_config(ddpm_network(), 1, 8) | values
    torch.manual_seed(1)
    unet = UNet2DModel.from_config(config).eval()
    scheduler = DDPMScheduler(clip_sample=True, variance_type="fixed_large")
    DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return unet


def test_a_folder_of_diffusers_gives_an_arm(tmp_path: Path):
    theirs = save_diffusers(tmp_path, norm_num_groups=1, layers_per_block=2)
    folder = read_folder(tmp_path, 8)
    arm, network = derive_arm(folder, "mine", SPEC, "digits")
    assert arm == "groups=1,up_attention=each,blocks=2,weights=mine"
    ours = UNet(network, 1, 8, 1000).eval()
    ours.load_state_dict(convert_folder(folder, network))
    x, level = torch.randn(2, 1, 8, 8), torch.tensor([5.0, 900.0])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, level), theirs(x, level).sample, atol=1e-5, rtol=0)


def test_an_arm_cannot_say_lists(tmp_path: Path):
    save_diffusers(tmp_path, block_out_channels=[16, 16])
    with pytest.raises(ValueError, match=r"channel_multipliers = \[1, 1\], not \[1, 2\]: no arm can say so"):
        derive_arm(read_folder(tmp_path, 8), "mine", SPEC, "digits")


@pytest.mark.parametrize("name", ["Mine", "a b", "../x", ""])
def test_a_name_that_no_arm_can_say_is_refused(exported: Path, name: str):
    with pytest.raises(ValueError, match=r"taken|not field=value|what matches"):
        print_import(ROOT, exported, name, "digits")


def test_the_printed_entry_and_arm_are_accepted(tmp_path: Path):
    workspace = copy_project(tmp_path / "project")
    save_diffusers(workspace.root / "elsewhere" / "model", norm_num_groups=1)
    command = ["python", "-m", "pipeline", "import", "elsewhere/model", "mine", "--case", "digits"]
    printed = workspace.run(*command).stdout
    entry, arm = printed.split("# params.yaml: ddpm.digits.arms\n- ")
    arm = arm.splitlines()[0].strip('"')
    digest = hashlib.sha256((workspace.root / "elsewhere/model" / WEIGHTS).read_bytes()).hexdigest()[:12]
    assert arm == f"groups=1,up_attention=each,weights=mine-{digest}"
    assert "folder: elsewhere/model" in entry
    assert "# clip_sample: True in the folder, False as" in printed
    assert "# variance_type: 'fixed_large' in the folder, 'fixed_small' as" in printed
    spec = workspace.root / "specs" / "ddpm" / "study.yaml"
    spec.write_text(spec.read_text().replace("imports: {}\n", entry))
    params = workspace.read("params.yaml")
    params["ddpm"]["digits"]["arms"].append(arm)
    workspace.write("params.yaml", params)
    assert f"ddpm digits {arm} seed 0" in workspace.run("python", "-m", "pipeline", "check", "--list").stdout
    again = workspace.run(*command, ok=False)
    assert again.returncode == 1
    assert f"'mine-{digest}': the name is taken" in again.stderr


def test_the_export_command_says_what_diffusers_cannot_hold(trained: Path, tmp_path: Path):
    workspace = copy_project(tmp_path / "project")
    shutil.copytree(trained, workspace.root / "runs" / "ddpm" / "digits" / "baseline" / "0")
    printed = workspace.run("python", "-m", "pipeline", "export", "digits", "baseline", "0", "out", "--step", "250")
    assert "ema-0000250.safetensors -> out" in printed.stdout
    assert "labels: fractional here" in printed.stdout
    assert (workspace.root / "out" / "model_index.json").is_file()
    missing = workspace.run("python", "-m", "pipeline", "export", "digits", "groups=2", "0", "out2", ok=False)
    assert missing.stderr.startswith("error: ")
    assert missing.stderr.count("\n") == 1
