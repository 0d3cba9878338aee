"""Neurons that serve one task: planted ones are found, and the strength of a cluster is what the paper defines."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.errors import BadInput
from srum_jax.evaluation.activation import (
    GENERATION,
    UNDERSTANDING,
    ClusterRule,
    NeuronSums,
    find_clusters,
    half_of,
    null_strength,
    report,
    standardised_strength,
    strength,
)

LAYERS, CHANNELS, SAMPLES = 3, 100, 64
PLANTED = {UNDERSTANDING: [(0, 5), (2, 7)], GENERATION: [(1, 3), (1, 4)]}


def samples(task, seed=0, planted=True, count=SAMPLES):
    values = np.random.default_rng([seed, task == GENERATION]).normal(size=(count, LAYERS, CHANNELS))
    for layer, channel in PLANTED[task] if planted else ():
        values[:, layer, channel] += 4
    return values


def sums(values):
    found = NeuronSums(LAYERS, CHANNELS)
    found.add(values)
    return found


def halves(**options):
    ids = [str(number) for number in range(SAMPLES)]
    half = half_of(ids)
    return [{task: sums(samples(task, **options)[half == number]) for task in (UNDERSTANDING, GENERATION)}
            for number in (0, 1)]


def test_planted_neurons_are_found_and_no_others():
    clusters = find_clusters(halves())
    assert {task: list(map(tuple, found.tolist())) for task, found in clusters.neurons.items()} == PLANTED
    assert clusters.jaccard == {UNDERSTANDING: 0.5, GENERATION: 1.0}, "two by chance, in one half each"
    assert clusters.sizes(GENERATION, LAYERS) == [0, 2, 0]


def test_no_layer_has_more_than_its_share():
    found = find_clusters(halves(), ClusterRule(share=0.01))
    assert found.sizes(GENERATION, LAYERS) == [0, 1, 0]


def test_no_neuron_of_that_selectivity_is_an_error_with_the_threshold():
    with pytest.raises(BadInput, match=r"'und' .* selectivity of at least 3"):
        find_clusters(halves(planted=False), ClusterRule(least=3.0))


def test_the_mean_of_samples_means_is_the_flat_mean_and_all_neurons_give_the_global_mean():
    values, neurons = samples(UNDERSTANDING), np.array(PLANTED[UNDERSTANDING])
    by_sample = values[:, neurons[:, 0], neurons[:, 1]].mean(axis=1)
    assert strength(sums(values), neurons) == pytest.approx(by_sample.mean())
    everything = np.argwhere(np.ones((LAYERS, CHANNELS), bool))
    assert strength(sums(values), everything) == pytest.approx(values.mean())


def test_the_order_and_the_batches_of_samples_do_not_matter():
    values = samples(UNDERSTANDING)
    whole, pieces = sums(values), NeuronSums(LAYERS, CHANNELS)
    for part in np.split(values[::-1], 8):
        pieces.add(part)
    np.testing.assert_allclose(pieces.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(pieces.variance, values.var(axis=0), atol=1e-12)
    ids = [str(number) for number in range(9)]
    assert half_of(ids[::-1]).tolist() == half_of(ids).tolist()[::-1] and abs(half_of(ids).sum() - 4.5) < 1


def test_random_clusters_of_the_same_sizes_lie_around_the_global_mean():
    found = null_strength(sums(samples(UNDERSTANDING)), np.array(PLANTED[UNDERSTANDING]))
    assert found["low"] < found["mean"] < found["high"] < strength(
        sums(samples(UNDERSTANDING)), np.array(PLANTED[UNDERSTANDING]))


def test_standardised_strength_is_in_deviations_of_the_base():
    base = sums(samples(UNDERSTANDING)) + sums(samples(GENERATION))
    neurons = np.array(PLANTED[UNDERSTANDING])
    assert standardised_strength(base, base, neurons) == pytest.approx(0)
    assert standardised_strength(sums(samples(UNDERSTANDING)), base, neurons) == pytest.approx(
        4 / 2 / np.sqrt(1 + 4), rel=0.1)


def test_every_model_data_set_and_cluster_has_its_numbers(tmp_path):
    clusters = find_clusters(halves())
    clusters.save(tmp_path / "clusters.safetensors", {"checkpoint_sha256": "x", "least": 0.8})
    again = dataclasses.replace(clusters, neurons=load_file(tmp_path / "clusters.safetensors"))
    data = {task: sums(samples(task, seed=1)) for task in (UNDERSTANDING, GENERATION)}
    found = report({"base": data}, data[UNDERSTANDING] + data[GENERATION], again)
    assert found["base"][UNDERSTANDING][UNDERSTANDING]["strength"] == pytest.approx(4, abs=0.3)
    assert abs(found["base"][UNDERSTANDING][GENERATION]["strength"]) < 0.5
    assert found["base"][GENERATION][GENERATION]["samples"] == SAMPLES


def test_values_that_are_no_numbers_and_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        sums(np.full((1, LAYERS, CHANNELS), np.nan))
    with pytest.raises(ValueError, match=r"expected \[samples, 3, 100\], found \[1, 2, 3\]"):
        sums(np.zeros((1, 2, 3)))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match=r"x\.safetensors"):
        NeuronSums.load(tmp_path / "x.safetensors")
