"""Every row recorded from the real nutcracker: hashes, rings, and which server each key goes to.

The pure core answers, through tests/route.c, from the configuration that nutcracker was
given, and from what `nutproxy convert` makes of it."""
import lzma
import os
import subprocess

import pytest

from nut import NUTPROXY

HERE = os.path.dirname(os.path.abspath(__file__))
ROUTE = os.environ.get("NUT_ROUTE", os.path.join(os.path.dirname(HERE), "build", "route"))


def rows(name):
    with lzma.open(os.path.join(HERE, "vectors", name + ".tsv.xz"), "rt", newline="\n") as f:
        next(f)                                 # the names of the columns
        return [line.rstrip("\n").split("\t") for line in f]


def ask(configuration, questions):
    """The core's answer to each question, a list of words."""
    text = "".join("\t".join(q) + "\n" for q in questions)
    done = subprocess.run([ROUTE, configuration], input=text, capture_output=True, text=True,
                          timeout=300, check=True)
    answers = done.stdout.split("\n")[:-1]
    assert len(answers) == len(questions)
    return answers


def compare(configuration, questions, wanted):
    answers = ask(configuration, questions)
    wrong = [(q, a, w) for q, a, w in zip(questions, answers, wanted) if a != w]
    assert not wrong, "%d of %d differ, such as (question, answer, wanted) %r" % (
        len(wrong), len(wanted), wrong[:5])


@pytest.fixture(params=["given", "converted"])
def configuration(request, tmp_path):
    """The path of a recorded configuration, by its name."""
    def path(name):
        given = os.path.join(HERE, "vectors", name + ".yml")
        if request.param == "given":
            return given
        ini = tmp_path / (name + ".ini")
        done = subprocess.run([NUTPROXY, "convert", given], capture_output=True, text=True, check=True)
        ini.write_text(done.stdout)
        return str(ini)
    return path


def pool_of(hash, spread, variant):
    """The pool of the recorded configuration, and who was ejected."""
    variant, _, out = variant.partition("-ejected")
    variant = {"unnamed-port11211": "port11211"}.get(variant, variant)
    return "%s.%s.%s" % (hash, spread, variant.removeprefix("hash_tag=")), out or "-"


@pytest.mark.parametrize("name,count", [("routing", 9600), ("routing_25equal", 1200), ("routing_ejected", 28800),
                                        ("routing_hashtag", 720), ("routing_port11211", 4800), ("routing_unix", 1200)])
def test_every_key_goes_where_nutcracker_sent_it(configuration, name, count):
    table = rows(name)
    assert len(table) == count
    questions = []
    for hash, spread, variant, key, _ in table:
        pool, out = pool_of(hash, spread, variant)
        questions.append(["route", pool, out, key])
    compare(configuration(name), questions, [row[4] for row in table])


def test_every_hash_value_is_twemproxys(configuration):
    table = rows("hash_values")
    assert len(table) == 2388
    compare(configuration("routing"), [["hash", hash, key] for hash, key, _ in table], [row[2] for row in table])


def test_every_set_of_weights_gets_its_points(configuration):
    table = rows("ketama_point_counts")
    assert len(table) == 376
    compare(configuration("routing"), [["points", weights] for weights, _ in table], [row[1] for row in table])


@pytest.mark.parametrize("variant", ["unnamed", "named"])
def test_the_whole_ring_is_twemproxys(configuration, variant):
    table = rows("continuum_" + variant)
    assert len(table) == 792
    compare(configuration("routing"), [["ring", "md5.ketama." + variant]],
            [" ".join(" ".join(row) for row in table)])
