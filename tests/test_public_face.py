"""What users type works as the README shows it, and importing the package changes nothing and loads no extra."""

import contextlib
import importlib
import io
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ensembletheory as et

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(python)?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language]
FACE = """
AffineKernel Dense Diagonal Estimate Field FiniteLaw Gain Gaussian GaussianMixture GridLaw Isotropic Law LowRankPlusDiagonal MeanField Ppca PpcaMixture
average_aligned_loadings average_covariances average_loadings bootstrap_mixtures bootstrap_ppcas chi_squared claims convolve divergences empirical_w2 enable_x64
fisher_divergence fit_mixture fit_ppca fit_ppca_mixture frechet_distance gain gains hamiltonian hellinger_squared identifiability imputation integration_cost
jensen_shannon kl l2_squared latent linear_pool log_normaliser log_pool match_moments mean_score_law mean_velocity_law mmd_squared mw2 nonreversible pooling
processes samplers score_sum_law standard_normal structures supervised total_variation w1 w2 w2_barycenter w2_squared
""".split()


def numbers(text):
    return [float(number) for number in re.findall(r"\d+\.\d+(?:e-?\d+)?", text)]


def test_the_ten_lines_of_the_readme_print_what_it_shows():
    assert len(PYTHON[0].strip().splitlines()) <= 10
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(PYTHON[0], {})
    shown = next(block for language, block in BLOCKS if not language and "gain" in block)
    assert len(printed.getvalue().splitlines()) == 4
    np.testing.assert_allclose(numbers(printed.getvalue()), numbers(shown), rtol=1e-9, atol=1e-13)  # ten digits; error bounds are below 1e-14


def test_the_numbers_on_paper():
    values = np.array(numbers(next(block for language, block in BLOCKS if not language and "gain" in block)))
    assert values[np.isclose(values, np.log(1.25) / 2, rtol=1e-9)].size == 1  # the log pool's gain
    variance = 4 / 3 * np.log(2)
    assert values[np.isclose(values, 0.5 * (np.log(variance) + 1 / variance - 1), rtol=1e-9)].size == 1  # the averaged score's divergence


def test_the_claim_of_the_readme_is_refuted_by_the_search():
    names = {}
    exec(PYTHON[1], names)
    found = et.claims.falsify(names["margin"], budget=2000)
    assert found.found
    assert found.margin < 0


def test_the_averaged_models_of_the_readme_have_the_masses_of_their_rules():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(next(block for block in PYTHON if "densities_on_the_line" in block), {})
    np.testing.assert_allclose(numbers(printed.getvalue()), [0.727, 0.727, 0.861], atol=1e-3)  # 0.73 and 0.867 by simulation in the theory's notes, with other steps


@pytest.mark.verify
def test_the_evaluations_of_the_readme_are_those_it_names():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(next(block for block in PYTHON if "evaluations_needed" in block), {})
    assert [float(line.split()[1]) for line in printed.getvalue().splitlines()] == [4, 1, 10, 10, 12]


@pytest.mark.verify
def test_the_networks_of_the_readme_gain_what_exact_scores_gain():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(next(block for block in PYTHON if "fit_ensemble" in block), {})
    trained, exact = (float(line.split()[1]) for line in printed.getvalue().splitlines() if line.split()[0] == "gain")
    assert exact > 0.19
    assert abs(trained - exact) < 0.02  # what 3,000 steps leave to be learned


@pytest.mark.verify  # fits thirty columns
def test_the_imputations_of_the_readme_err_as_it_says():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(next(block for block in PYTHON if "GaussianImputer" in block), {})
    np.testing.assert_allclose(numbers(printed.getvalue()), [0.740, 0.482, 0.642], atol=6e-4)


def test_the_segmenters_of_the_readme_are_as_far_from_the_graders_as_it_says():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(next(block for block in PYTHON if "deterministic_floor" in block), {})
    first, second, mixed, averaged, floor = numbers(printed.getvalue())
    np.testing.assert_allclose([first, second, mixed, floor], [0.155, 0.305, 0.035, 0.375], atol=1e-12)  # sums over four masks, by hand
    assert averaged == pytest.approx(0.092, abs=5e-4)


@pytest.mark.parametrize("name", FACE)
def test_every_public_name_resolves_and_is_documented(name):
    assert getattr(et, name).__doc__


MODULES = sorted(module.name for module in pkgutil.walk_packages(et.__path__, "ensembletheory.") if "__main__" not in module.name)


@pytest.mark.parametrize("module", MODULES)
def test_modules_declare_names_that_exist_once(module):
    imported = importlib.import_module(module)
    declared = getattr(imported, "__all__", [])
    assert len(declared) == len(set(declared))
    assert all(hasattr(imported, name) for name in declared)
    assert declared or not [value for value in vars(imported).values() if callable(value) and value.__module__ == module]


def test_importing_changes_no_setting_and_loads_no_extra():
    code = """
import json, sys, jax
before = dict(jax.config.values)
import ensembletheory
after = dict(jax.config.values)
extras = [name for name in ("optax", "hypothesis", "matplotlib", "dask", "pyarrow", "sklearn", "miceforest", "nilearn", "SimpleITK", "pytest", "typer") if name in sys.modules]
print(json.dumps([sorted(key for key in after if after[key] != before.get(key)), extras]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(result.stdout) == [[], []]


def test_conventions_are_importable_documentation():
    import ensembletheory.conventions

    for word in ("nats", "w2_squared", "horizon", "score"):
        assert word in ensembletheory.conventions.__doc__.lower()


def test_citation_names_the_version_and_the_licence():
    citation = (ROOT / "CITATION.cff").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"', project, re.MULTILINE).group(1)
    assert f"version: {version}" in citation
    assert "license: MIT" in citation
    for key in ("cff-version", "title", "authors", "message"):
        assert re.search(rf"^{key}:", citation, re.MULTILINE)
