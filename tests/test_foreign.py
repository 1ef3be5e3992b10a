"""Networks that a user brings: in the time test, and as arms."""

import re
import subprocess
import sys

import foreign_networks as networks
import pytest
import torch
from problems import ROOT

from pipeline.layers.foreign import DENOISER, FUNCTION, ForeignNetwork, make_network
from pipeline.run.foreign import import_factory
from pipeline.schema.base import SpecError
from pipeline.studies.timetest import foreign as timetest
from pipeline.studies.timetest.answer import answer, describe

# ---- The time test ---------------------------------------------------------------------------------------------------


def test_a_denoiser_that_ignores_the_time_is_blind_exactly():
    use = timetest.test_time(networks.BlindDenoiser, seeds=2, steps=20)
    assert use.case == "white_noise"
    for tested in use.by_seed.values():
        assert tested.score.r >= 1
        assert tested.score.r_centred == 1
        assert tested.score.change == 0
        assert tested.half is None
    assert answer(use).startswith("No: ")


def test_a_denoiser_that_is_told_uses_the_time():
    use = timetest.test_time(networks.ToldDenoiser, seeds=3, steps=200)
    assert all(tested.score.r < 0.9 for tested in use.by_seed.values())
    assert answer(use).startswith("Yes: ")
    said = describe(use)
    assert "forward(x, t), t from 0 to 999" in said
    assert "at least 0.07" in said  # the floor, as of our own networks
    assert use == timetest.test_time(networks.ToldDenoiser, seeds=3, steps=200)


def test_an_ode_function_is_lifted_and_knows_the_time():
    use = timetest.test_time(networks.Told, seeds=2, steps=150, lift=8)
    assert use.case == "there_and_back"
    assert all(tested.score.r_centred < 0.9 for tested in use.by_seed.values())


def test_batch_norm_sees_one_time_at_once_and_inputs_are_not_overwritten():
    """Four times in a batch would tell batch norm the time; a shared input that is overwritten would change R."""
    use = timetest.test_time(networks.BlindByBatch, "there_and_back", seeds=1, steps=20, lift=4)
    (tested,) = use.by_seed.values()
    assert tested.score.r >= 1 - 1e-6
    assert tested.score.r_centred == pytest.approx(1, abs=1e-6)
    assert "one seed" in describe(use)


def test_whole_levels_and_outputs_of_diffusers_are_understood():
    network = ForeignNetwork(networks.Embedded(), (1, 8, 8), DENOISER, "it")
    assert network.form == "integer"
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(network(x, torch.tensor([7.0])), x * network.inner.table.weight[7])


def test_the_time_has_the_scale_that_is_asked_for():
    told = networks.Told(1)
    plain, scaled = (ForeignNetwork(told, (1, 8, 8), FUNCTION, "it", scale=scale) for scale in (1.0, 999.0))
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(scaled(x, torch.tensor(0.5)), plain(x, torch.tensor(499.5)))
    use = timetest.test_time(networks.Odd, "white_noise", seeds=1, steps=20, time="when", scale="unit")
    assert use.call == "forward(x, when), when from 0 to 1"


def test_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    timetest.test_time(networks.BlindDenoiser, seeds=1, steps=20)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Crowded", "forward also needs 'y'"),
        ("Strided", r"gives \[2, 1, 4, 4\] for x \[2, 1, 8, 8\]; the same shape"),
        ("Broken", "not finite before the first step"),
        ("Odd", r"forward\(x, when\): one argument must be .* the time"),
        ("fail", "the factory fails: KeyError: 'weights'"),
        ("need", "the factory needs 'path'; it is given channels, image_size alone"),
        ("return_nothing", "returns a NoneType; a torch module is needed"),
        ("freeze", "no parameter to train"),
    ],
)
def test_a_network_that_cannot_be_tested_is_one_line(name: str, says: str):
    with pytest.raises(SpecError, match=says) as refused:
        timetest.test_time(getattr(networks, name), seeds=1, steps=20)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"case": "white_nose"}, "did you mean 'white_noise'"),
        ({"case": "constant"}, "allowed are there_and_back, turning_wind, white_noise"),
        ({"scale": "sigma"}, "allowed are levels, unit"),
        ({"time": "timestp"}, "did you mean 'timestep'"),
        ({"steps": 5}, "steps"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict, says: str):
    with pytest.raises(SpecError, match=says) as refused:
        timetest.test_time(networks.BlindDenoiser, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tests.foreign_networks", "package.module:factory is needed"),
        ("tests.nowhere:make", "there is no module 'tests.nowhere'"),
        ("tests.foreign_networks:Tol", "has no 'Tol' (did you mean 'Told'?)"),
        ("tests.foreign_networks:NUMBER", "NUMBER is a int"),
    ],
)
def test_a_name_of_nothing_is_one_line(name: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)):
        import_factory(name, ROOT)


def test_a_factory_gets_what_its_signature_has():
    assert make_network(networks.BlindByBatch, "it", 5, 9).conv.in_channels == 5


@pytest.mark.slow
def test_the_command_prints_the_numbers_and_an_answer():
    command = ["-m", "pipeline", "timetest", "tests.foreign_networks:BlindDenoiser", "--seeds", "2", "--steps", "20"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "centred R" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("No: ")
    wrong = [sys.executable, *command[:3], "tests.foreign_networks:Blind"]
    done = subprocess.run(wrong, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "did you mean 'BlindDenoiser'" in done.stderr
