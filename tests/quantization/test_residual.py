"""The residual quantizer against a slow obvious loop, its gradients, restarts, resume, and two processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.preloaded import Preloaded

from dig.quantization import ResidualQuantizer


def quantizer(sizes: tuple[int, ...] = (6, 5, 4), dim: int = 3, **settings: float) -> ResidualQuantizer:
    torch.manual_seed(0)
    made = ResidualQuantizer(list(sizes), dim, **settings)
    for codebook in made.codebooks:
        codebook.data.normal_()
    return made


def latents(count: int, dim: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def by_hand(made: ResidualQuantizer, batch: torch.Tensor) -> tuple[list[list[int]], list[torch.Tensor], float]:
    """Codes, quantized vectors and loss, an item and a level at a time."""
    all_codes, vectors, loss = [], [], 0.0
    for latent in batch:
        residual, total, codes = latent, torch.zeros_like(latent), []
        for codebook in made.codebooks:
            distances = [float(((residual - code) ** 2).sum()) for code in codebook.detach()]
            best = distances.index(min(distances))
            error = float(((residual - codebook[best]) ** 2).mean())
            loss += (error + made.commitment_weight * error) / len(batch)
            codes.append(best)
            total, residual = total + codebook[best], residual - codebook[best]
        all_codes.append(codes)
        vectors.append(total)
    return all_codes, vectors, loss


def test_equals_the_obvious_loop():
    made, batch = quantizer(commitment_weight=0.3), latents(40)
    output = made(batch)
    codes, vectors, loss = by_hand(made, batch)
    assert output.codes.tolist() == codes
    torch.testing.assert_close(output.quantized, torch.stack(vectors))
    assert float(output.loss) == pytest.approx(loss, rel=1e-5)


def test_gradient_passes_straight_through():
    made, batch = quantizer(), latents(10).requires_grad_()
    weights = latents(10, seed=2)
    (made(batch).quantized * weights).sum().backward()
    torch.testing.assert_close(batch.grad, weights)
    assert all(codebook.grad is None for codebook in made.codebooks)


def test_loss_pulls_codes_to_residuals_and_latents_to_codes():
    made, batch = quantizer(sizes=(4,), commitment_weight=0.3), latents(10).requires_grad_()
    output = made(batch)
    output.loss.backward()
    gap = batch.detach() - made.codebooks[0].detach()[output.codes[:, 0]]
    torch.testing.assert_close(batch.grad, 0.3 * 2 * gap / gap.numel())
    expected = torch.zeros(4, 3).index_add_(0, output.codes[:, 0], -2 * gap / gap.numel())
    torch.testing.assert_close(made.codebooks[0].grad, expected)


def test_a_level_does_not_train_the_levels_before_it():
    batch, both = latents(10), quantizer(sizes=(4, 3))
    alone = ResidualQuantizer([4], 3)
    alone.codebooks[0].data.copy_(both.codebooks[0].data)
    for made in (both, alone):
        made(batch).loss.backward()
    torch.testing.assert_close(both.codebooks[0].grad, alone.codebooks[0].grad)


def test_commitment_weight_is_not_ignored():
    losses = [float(quantizer(commitment_weight=weight)(latents(20)).loss) for weight in (0.0, 1.0)]
    assert losses[1] == pytest.approx(2 * losses[0])


def test_encode_and_decode_are_inverse():
    made = quantizer().eval()
    output = made(latents(50))
    assert torch.equal(made.encode(latents(50)), output.codes)
    torch.testing.assert_close(made.decode(output.codes), output.quantized)
    well_apart = ResidualQuantizer([2, 2, 2], 1)
    for level, codebook in enumerate(well_apart.codebooks):
        codebook.data[:, 0] = torch.tensor([-1.0, 1.0]) * 10.0**-level
    codes = torch.cartesian_prod(*[torch.arange(2)] * 3)
    assert torch.equal(well_apart.encode(well_apart.decode(codes)), codes)


def test_decoding_fewer_levels_is_coarser():
    made = ResidualQuantizer([8, 8, 8], 3)
    batch = latents(200)
    made.initialise(batch, torch.Generator().manual_seed(0))
    codes = made.encode(batch)
    errors = [float((made.decode(codes[:, :level]) - batch).square().mean()) for level in (1, 2, 3)]
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_initialise_uses_all_codes_of_every_level_and_is_deterministic():
    first, second = ResidualQuantizer([16, 8, 8], 3), ResidualQuantizer([16, 8, 8], 3)
    batch = latents(500)
    assert not first.initialised
    for made in (first, second):
        made.initialise(batch, torch.Generator().manual_seed(3))
    assert first.initialised
    assert [len(column.unique()) for column in first.encode(batch).T] == [16, 8, 8]
    assert all(torch.equal(a, b) for a, b in zip(first.codebooks, second.codebooks, strict=True))


def test_restart_revives_a_dead_code():
    made, batch = quantizer(sizes=(4, 3), restart_after=3), latents(64)
    made.codebooks[0].data[2] = 1000.0  # nothing is near
    for step in range(3):
        assert made.codebooks[0][2, 0] == 1000.0, f"restarted before step {step}"
        output = made(batch)
    assert output.restarted[0].tolist() == [False, False, True, False]
    distances = (batch - made.codebooks[0][2]).square().sum(dim=1)
    assert distances.min() == 0, "the code must lie on a residual of the batch, which at level 1 is a latent"
    assert (made(batch).codes[:, 0] == 2).any()


def test_a_restarted_code_gets_its_time_again():
    made = quantizer(sizes=(4,), restart_after=3)
    restarts = []
    for _ in range(7):
        made.codebooks[0].data[2] = 1000.0  # dies again at once
        restarts.append(bool(made(latents(64)).restarted[0][2]))
    assert restarts == [False, False, True, False, False, True, False]


@pytest.mark.parametrize(("restart_after", "training"), [(0, True), (3, False)])
def test_no_restart_when_switched_off_or_in_evaluation(restart_after: int, training: bool):
    made = quantizer(sizes=(4,), restart_after=restart_after).train(training)
    made.codebooks[0].data[2] = 1000.0
    before = {name: value.clone() for name, value in made.state_dict().items()}
    for _ in range(10):
        assert not any(mask.any() for mask in made(latents(16)).restarted)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_more_dead_codes_than_items_in_the_batch():
    made = quantizer(sizes=(20,), restart_after=1)
    assert made(latents(3)).restarted[0].sum() >= 17
    assert torch.isfinite(made.codebooks[0]).all()


def test_a_code_in_use_is_never_restarted():
    made, batch = quantizer(sizes=(4,), restart_after=2), latents(64)
    used = made(batch).codes.unique()
    before = made.codebooks[0].detach().clone()
    for _ in range(6):
        made(batch)
    torch.testing.assert_close(made.codebooks[0][used], before[used], rtol=0, atol=0)


def test_resume_from_the_state_dict_is_exact():
    batches = [latents(8, seed=seed) for seed in range(30)]

    def train(made: ResidualQuantizer, part: list[torch.Tensor]) -> int:
        return sum(int(mask.sum()) for batch in part for mask in made(batch).restarted)

    whole = quantizer(sizes=(12, 12), restart_after=4)
    train(whole, batches)
    first = quantizer(sizes=(12, 12), restart_after=4)
    train(first, batches[:13])
    torch.manual_seed(99)  # what happens outside must not matter
    second = ResidualQuantizer([12, 12], 3, restart_after=4)
    second.load_state_dict(first.state_dict())
    assert train(second, batches[13:]) > 0, "no restart happened, the test would prove nothing"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_latents_in_bfloat16_are_quantised_in_float32():
    made = quantizer().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made(latents(30).bfloat16())
    assert output.quantized.dtype == torch.float32
    assert torch.equal(output.codes, made.encode(latents(30).bfloat16().float()))


TWO_RANKS = """
import sys, torch, torch.distributed as dist
from dig.quantization import ResidualQuantizer
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(rank)
quantizer = ResidualQuantizer([16, 8], 3, restart_after=2)
quantizer.initialise(torch.randn(200, 3), torch.Generator().manual_seed(rank))
initial = [codebook.detach().clone() for codebook in quantizer.codebooks]
restarted = sum(int(mask.sum()) for _ in range(6) for mask in quantizer(torch.randn(4, 3)).restarted)
torch.save({"initial": initial, "state": quantizer.state_dict(), "restarted": restarted}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_hold_the_same_codebooks_after_initialisation_and_restarts(tmp_path: Path):
    command = [sys.executable, "-c", TWO_RANKS]
    ranks = [Preloaded([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE) for rank in range(2)]
    errors = [process.communicate(timeout=100)[1].decode() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["restarted"] == second["restarted"] > 0
    torch.testing.assert_close(first["initial"], second["initial"], rtol=0, atol=0)
    torch.testing.assert_close(first["state"], second["state"], rtol=0, atol=0)

    torch.manual_seed(0)  # what rank 0 does alone is what both have
    alone = ResidualQuantizer([16, 8], 3, restart_after=2)
    alone.initialise(torch.randn(200, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close([c.detach() for c in alone.codebooks], first["initial"])


def test_moving_averages_follow_their_formula():
    made, batch = quantizer(sizes=(4, 3), update="ema", ema_decay=0.9), latents(40)
    made.initialise(batch, torch.Generator().manual_seed(0))
    before = [codebook.detach().clone() for codebook in made.codebooks]
    codes = made.encode(batch)
    output = made(batch)
    assert torch.equal(output.codes, codes)
    residual = batch
    for level, codebook in enumerate(before):
        for code in range(len(codebook)):
            mine = residual[codes[:, level] == code]
            size = 0.9 * 1.0 + 0.1 * len(mine)
            total = 0.9 * codebook[code] + 0.1 * mine.sum(dim=0)
            torch.testing.assert_close(made.codebooks[level].detach()[code], total / size)
        residual = residual - codebook[codes[:, level]]


def test_moving_averages_need_no_gradient_and_pay_commitment_alone():
    made, batch = quantizer(sizes=(4,), update="ema", commitment_weight=0.3), latents(10).requires_grad_()
    code = made.codebooks[0].detach().clone()
    output = made(batch)
    expected = 0.3 * (batch - code[output.codes[:, 0]]).square().mean()
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert batch.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_a_restarted_code_forgets_its_average():
    made, batch = quantizer(sizes=(4,), update="ema", restart_after=2), latents(64)
    made.initialise(batch, torch.Generator().manual_seed(0))
    for _ in range(2):
        made.codebooks[0].data[2] = made.ema_sums[2] = 1000.0
        output = made(batch)
    assert output.restarted[0][2]
    torch.testing.assert_close(made.ema_sums[2], made.codebooks[0][2].detach())
    assert made.ema_sizes[2] == 1.0 and made.codebooks[0][2].abs().max() < 10


def test_sinkhorn_levels_spread_a_batch_in_training_alone():
    made, batch = quantizer(sizes=(4, 4), sinkhorn_levels=[1], sinkhorn_iterations=200), latents(64) + 2.0
    plain = torch.bincount(made.eval()(batch).codes[:, 0], minlength=4)
    even = torch.bincount(made.train()(batch).codes[:, 0], minlength=4)
    assert even.max() <= 20 and plain.max() > 30


def test_rotation_changes_the_gradient_and_nothing_else():
    batch = latents(10)
    outputs, gradients = [], []
    for estimator in ("straight-through", "rotation"):
        leaf = batch.clone().requires_grad_()
        output = quantizer(estimator=estimator)(leaf)
        (output.quantized * latents(10, seed=2)).sum().backward()
        outputs.append(output.quantized.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(outputs[0], outputs[1])
    assert (gradients[0] - gradients[1]).abs().max() > 0.1


def test_costs_of_last_codes_are_distances_to_what_is_left():
    made, batch = quantizer(), latents(20)
    codes = made.encode(batch)
    costs = made.last_level_distances(batch, codes)
    assert torch.equal(costs.argmin(dim=1), codes[:, -1])
    rest = batch - made.decode(codes[:, :-1])
    torch.testing.assert_close(costs[:, 1], (rest - made.codebooks[-1][1]).square().sum(dim=1))


def test_codes_decode_to_what_was_quantised():
    made, batch = quantizer().eval(), latents(30)
    output = made(batch)
    torch.testing.assert_close(made.decode(made.encode(batch)).detach(), output.quantized)
    assert torch.equal(made.encode(made.decode(output.codes[:, :1]).detach())[:, 0], output.codes[:, 0])
