"""The contract: when a number holds, what a caption must print, which inputs can be changed."""

import numpy as np
import pytest

from ensembletheory.plotting import new_figure
from paper_figures.framework import Caption, Figure, Number, mean_number
from paper_figures.framework.contract import literals, nearest


@pytest.mark.parametrize(
    ("got", "printed", "holds"),
    [
        (0.4705882, "0.470588", True),
        (0.4705886, "0.470588", False),
        (0.125, "0.12", True),
        (0.135, "0.13", True),
        (0.1351, "0.13", False),
        (2.4, "2", True),
        (2.6, "2", False),
        (-0.823529, "-0.8235", True),
        (0.823529, "-0.8235", False),
        (4.3e-5, "4.3e-5", True),
        (4.4e-5, "4.3e-5", False),
        (float("nan"), "0.5", False),
        (float("inf"), "0.5", False),
    ],
)
def test_a_number_holds_within_half_a_unit_of_its_last_digit(got, printed, holds):
    assert Number("x", got, printed).holds is holds


def test_a_simulated_number_may_be_off_by_five_standard_errors_more():
    assert Number("x", 0.5 + 0.05 + 0.499, "0.5", standard_error=0.1).holds
    assert not Number("x", 0.5 + 0.05 + 0.501, "0.5", standard_error=0.1).holds
    assert Number("x", 0.5, "0.50", standard_error=0.1).tolerance == pytest.approx(0.505)


def test_a_number_of_an_approximate_input_may_be_off_by_the_error_allowed():
    assert Number("x", -0.5 - 0.05 - 0.0499, "-0.5", relative_error=0.1).holds
    assert not Number("x", -0.5 - 0.05 - 0.0501, "-0.5", relative_error=0.1).holds


def test_arrays_of_one_entry_are_numbers_too():
    assert Number("x", np.float64(0.5), "0.5", np.float64(0.01)).holds is True


def test_literals_are_whole_numbers_as_printed():
    assert literals("0.5, then -1.25 at K=10 ($4.3e-5$); 2.") == {"0.5", "1.25", "10", "4.3e-5", "2"}


@pytest.mark.parametrize("text", ["it is 0.51", "it is 10.5", "it is half"])
def test_a_caption_must_print_what_it_asserts(text):
    with pytest.raises(ValueError, match=r"`gain`: got 0\.5, which the text does not print"):
        Caption(text, (Number("gain", 0.5, "0.5"),))


def test_a_caption_must_assert_something():
    with pytest.raises(ValueError, match="`numbers`: got none"):
        Caption("a picture", ())


def figure(**changes):
    parts = {
        "name": "toy",
        "title": "Toy",
        "inputs": {"level": 2.0, "points": 9},
        "compute": lambda level, points: {"y": np.full(points, level)},
        "draw": lambda data: new_figure(2.0, 2.0)[0],
        "caption": lambda data: Caption("at 2.0", (Number("level", data["y"][0], "2.0"),)),
        "alt": "a line",
        "source": "here",
    }
    return Figure(**(parts | changes))


def test_quick_inputs_override_and_outside_changes_override_both():
    toy = figure(quick_inputs={"points": 3})
    assert toy.settings(quick=False) == {"level": 2.0, "points": 9}
    assert toy.settings(quick=True) == {"level": 2.0, "points": 3}
    assert toy.with_inputs(points=5).settings(quick=True) == toy.with_inputs(points=5).settings(quick=False) == {"level": 2.0, "points": 5}
    assert toy.with_inputs(level=3.0).settings(quick=True) == {"level": 3.0, "points": 3}


def test_unknown_inputs_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"`levl`: got no such input of toy.*Did you mean level\?"):
        figure().with_inputs(levl=1.0)
    with pytest.raises(ValueError, match=r"`pints`: .*Did you mean points\?"):
        figure(quick_inputs={"pints": 1})


@pytest.mark.parametrize("value", [np.float64(1.0).reshape(1), float("nan"), {1, 2}])
def test_inputs_must_be_plain(value):
    with pytest.raises((TypeError, ValueError)):
        figure(inputs={"level": value})


def test_nearest_names_what_is_alike_or_all():
    assert nearest("pol_chain", ["pool_chain", "losses"]) == "pool_chain"
    assert nearest("zzz", ["pool_chain", "losses"]) == "pool_chain, losses"


def test_means_of_few_replications_are_given_students_quantile():
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    number = mean_number("mean", values, "0.2")
    standard_error = np.sqrt(np.sum((values - 0.2) ** 2) / 4 / 5)
    np.testing.assert_allclose([number.got, number.standard_error], [0.2, standard_error * 8.610 / 5], rtol=1e-4)  # t tables: 4 degrees of freedom, 0.0005 a tail
    with pytest.raises(ValueError, match="`mean`: got 4 replications; expected at least 5"):
        mean_number("mean", values[:4], "0.2")
    many = np.tile(values, 20)
    np.testing.assert_allclose(mean_number("mean", many, "0.2").standard_error, many.std(ddof=1) / 10, rtol=1e-12)
