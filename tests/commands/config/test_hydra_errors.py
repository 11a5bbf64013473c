"""Every mistake of composing becomes one line naming the key and the closest valid one."""

from __future__ import annotations

import pytest

from gradgene.errors import PairError

TOY = "experiment=toy"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("attribution=frist", TOY), ["attribution:", "'frist'", "one of 'first'"]),
        (("atribution=first", TOY), ["atribution:", "one of 'attribution'"]),
        (("experiment=toyy",), ["experiment:", "one of 'toy'"]),
        (("study.tagret=x", TOY), ["study.tagret:", "one of 'study.target'"]),
        (("attribution.waht=x", TOY), ["attribution.waht:", "'attribution.what'"]),
        (
            ("attribution=second", "attribution.where=x", TOY),
            ["attribution.where:", "'attribution"],
        ),
        (("hydra.rnu.dir=x", TOY), ["hydra.rnu.dir:", "'hydra.run.dir'"]),
        (("study=toy",), ["study:", "section"]),
        (("+study.seed=1", TOY), ["study.seed:", "without the +"]),
        (("~study.sede", TOY), ["study.sede:", "'study.seed'"]),
        (("attribution=first,second", TOY), ["attribution:", "-m"]),
        (("study.input=[a", TOY), ["study.input=[a:", "quote"]),
        (("study.input=T (naive)", TOY), ["study.input=T (naive)", "quote"]),
        (("attribution={a: 1}", TOY), ["attribution:", "one of"]),
        (("experiment=lost",), ["attribution/frist:", "one of 'first'"]),
        (("experiment=broken",), ["broken.yaml, line 2:", "YAML"]),
        (("--config-dir=nowhere", TOY), ["nowhere"]),
        (("--resolve", TOY), ["--resolve"]),
        (("study.name=${study.nmae}", TOY), ["study.nmae"]),
        # These compose, and are found by the binder.
        (("study.seed=abc", TOY), ["study.seed:", "expected int", "'abc'"]),
        (("study.input=3", TOY), ["study.input:", "expected str", "quote"]),
        (("study.match_on=disease", TOY), ["study.match_on:", "tuple[str, ...]"]),
        (("study.match_on=[disease]", TOY), ["study.match_on:", "target"]),
        (("study.baseline=case", TOY), ["study.baseline:", "same label"]),
        (("+study.tagret=x", TOY), ["study.tagret:", "one of 'target'"]),
        (("+sutdy.seed=3", TOY), ["sutdy.seed:", "unknown key"]),
        (("+extra=3", TOY), ["extra:", "unknown key", "'attribution'"]),
        (("experiment=typo",), ["study.tagret:", "one of 'target'"]),
        (("attribution.where=3", TOY), ["attribution.where:", "expected str | None"]),
        (("study.seed='3'", TOY), ["study.seed:", "expected int"]),
    ],
)
@pytest.mark.parametrize("sweep", [False, True])
def test_one_line(gradgene, fake, words, says, sweep):
    if sweep and ("-m" in says or "--resolve" in words):
        pytest.skip("not a mistake in a sweep")
    code, err = gradgene("study", *(["-m"] if sweep else []), *words)
    assert code == 2, err
    last = err.splitlines()[-1]
    assert last.startswith("gradgene: error: ")
    for text in says:
        assert text in last
    assert not fake.CALLS
    assert sweep or err.count("\n") == 1


def test_missing_values_are_named_with_what_to_do(gradgene, fake):
    code, err = gradgene("study", "study.name=x", "study.input=a")
    assert code == 2 and not fake.CALLS
    assert "study.target, study.baseline: no value given" in err
    assert "study.target=... study.baseline=..." in err
    code, err = gradgene("study")
    assert "study.name, study.target" in err


def test_filters_need_no_plus(gradgene, fake):
    code, err = gradgene(
        "study", TOY, "study.filters={call: [singlet]}", "study.filters.donor=['1015']"
    )
    assert code == 0, err
    assert fake.CALLS[0][0].study.filters == {"call": ["singlet"], "donor": ["1015"]}


def test_labels_with_spaces_and_signs(gradgene, fake):
    words = ("study.input=CD14+ Monocyte", "study.baseline=IFN-beta stimulated")
    code, err = gradgene("study", TOY, *words)
    assert code == 0, err
    assert fake.CALLS[0][0].study.input == "CD14+ Monocyte"


def test_the_users_own_config_directory(gradgene, fake, conf):
    own = conf.parent / "mine" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text((conf / "experiment/toy.yaml").read_text())
    assert gradgene("study", "--config-dir", "mine", "experiment=mine")[0] == 0
    assert fake.CALLS[0][0].study.name == "toy"
    code, err = gradgene("study", "--config-dir", "mine", "experiment=mien")
    assert code == 2 and "one of 'mine'" in err
    code, err = gradgene("study", "--config-dir", "mine", "experiment=mine", "study.sede=1")
    assert code == 2 and "'study.seed'" in err


def test_cfg_prints_and_runs_nothing(gradgene, fake):
    assert gradgene("study", TOY, "--cfg", "job", "study.seed=7")[0] == 0
    assert not fake.CALLS


def test_no_directory_is_left_by_a_mistake(gradgene, conf):
    gradgene("study", TOY, "study.seed=abc")
    assert not (conf.parent / "runs" / "toy").exists()


def test_sweep_goes_on_after_a_failure_and_fails_at_the_end(gradgene, fake, conf):
    fake.RAISES["second"] = ValueError("a bug")
    code, err = gradgene("study", "-m", TOY, "attribution=second,first")
    assert code == 1 and "a bug" in err and "job 0 (attribution=second) failed" in err
    assert len(fake.CALLS) == 2
    assert fake.CALLS[1][2] == (conf.parent / "runs/toy/attribution=first")

    fake.RAISES["second"] = PairError("no pairs")
    code, err = gradgene("study", "-m", TOY, "attribution=second,first")
    assert code == 2
    assert "1 of 2 jobs failed" in err.splitlines()[-1] and "no pairs" in err.splitlines()[-1]


def test_a_wrong_value_in_the_last_job_of_a_sweep_is_known_before_the_first(gradgene, fake):
    code, err = gradgene("study", "-m", TOY, "attribution=first,second", "study.seed=1,b")
    assert code == 2 and not fake.CALLS
    assert err.count("\n") == 1 and "study.seed" in err and "'b'" in err


def test_a_sweep_names_a_wrong_key_of_any_of_its_leaves(gradgene, fake):
    code, err = gradgene("study", "-m", TOY, "attribution=first,second", "attribution.where=x")
    assert code == 2 and "attribution.where" in err and not fake.CALLS
