"""What a hostile or foreign job config does to the proxier that reads it: nothing."""

from __future__ import annotations

import pickle
import pickletools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ray
from ray import cloudpickle
from ray.job_config import JobConfig
from ray.runtime_env import RuntimeEnv
from ray.util.client.server.proxy import inert
from ray.util.client.server.proxy.job_config import BadJobConfig, RuntimeEnvSpec, runtime_env_of


def text(value: str) -> bytes:
    """The instructions that put a short text on an unpickler's stack."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def made(*instructions: bytes) -> bytes:
    return b"\x80\x04" + b"".join(instructions) + b"."


CONFIG = named("ray.job_config", "JobConfig")
ENV = named("ray.runtime_env.runtime_env", "RuntimeEnv")


def config_with(env: bytes) -> bytes:
    """A pickled job config whose runtime environment is what ``env`` puts on the stack."""
    return made(CONFIG, b")\x81}", text("runtime_env"), env, b"sb")


def lists_of_lists(depth: int) -> bytes:
    """Ten lists of ten lists of ten …, each written once and named ten times."""
    inner = b"]q\x00"
    for level in range(depth):
        inner += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    return inner


HOSTILE = {
    "an attribute of a class": made(
        CONFIG, b"N}", text("_get_serialized_runtime_env"), text("x"), b"s\x86b"
    ),
    "an attribute of a dict class": made(ENV, b"N}", text("known_fields"), text("x"), b"s\x86b"),
    "state of a class": made(CONFIG, b"}", text("state"), text("x"), b"sb"),
    "a place far off in the memo": made(b"Nr\xff\xff\xff\x7f"),
    "text that is longer than all": made(b"X\xff\xff\xff\x7fx"),
    "bytes that are longer than all": made(b"\x8e" + (1 << 40).to_bytes(8, "little") + b"x"),
    "a frame that is longer than all": made(b"\x95" + (1 << 40).to_bytes(8, "little") + b"N"),
    "the hash of nested tuples": made(b"})" + b"\x85" * 300_000 + b"Ns"),
    "numbers of one hash": made(b"}\x8a\x09", ((2**61 - 1) * 2**9).to_bytes(9, "little"), b"Ns"),
    "half a surrogate": made(named("a\ud800", "b")),
    "too many bytes": made(b"N0" * inert.MAX_BYTES),
    "the state of nothing": made(CONFIG, b")\x81"),
    "a list of itself": config_with(b"}" + text("a") + b"]q\x00h\x00as"),
    "too deep an environment": config_with(b"}" + text("a") + b"]" * 500 + b"a" * 499 + b"s"),
    "too large an environment": config_with(b"}" + text("a") + lists_of_lists(9) + b"s"),
    "a key that is a tuple": config_with(b"})Ns"),
    "a text for an environment": config_with(text("abc")),
    "a class for an environment": config_with(ENV),
    "bytes in an environment": config_with(b"}" + text("a") + b"C\x01xs"),
    "an object of the caller's": config_with(CONFIG + b")\x81"),
    "an unknown option's value": config_with(b"}" + text("env_vars") + text("x") + b"s"),
}


@pytest.mark.parametrize("pickled", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused(pickled: bytes) -> None:
    with pytest.raises(BadJobConfig) as raised:
        runtime_env_of(pickled)
    assert str(raised.value).encode(), "any message must be able to take the text"
    assert len(str(raised.value)) < 10_000
    assert runtime_env_of(pickle.dumps(JobConfig())).empty, "the next client is to notice nothing"


@pytest.mark.parametrize("option", ["pip", "uv", "conda"])
@pytest.mark.parametrize("make", [dict, lambda **env: RuntimeEnv(_validate=False, **env)])
def test_no_file_of_this_machine_is_read(tmp_path, option, make) -> None:
    listed = tmp_path / "environment.yml"
    listed.write_text("secret")
    for value in (str(listed), {"packages": str(listed)}):
        config = JobConfig(runtime_env=make(**{option: value}))
        try:
            spec = runtime_env_of(cloudpickle.dumps(config))
        except BadJobConfig as e:
            assert "secret" not in str(e)
        else:
            assert "secret" not in spec.serialized


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "env",
    [
        {},
        {"env_vars": {"A": "1"}},
        {"working_dir": "gcs://_ray_pkg_a.zip", "py_modules": ["gcs://_ray_pkg_b.zip"]},
        {"pip": ["a", "b"], "config": {"setup_timeout_seconds": 5, "eager_install": False}},
        {"conda": "a_name"},
        {"conda": {"dependencies": ["pip", {"pip": ["x"]}]}},
        {"uv": {"packages": ["a"], "uv_version": "==0.4.0"}},
    ],
    ids=lambda env: ",".join(env) or "none",
)
@pytest.mark.parametrize("validated", [True, False])
def test_what_clients_send_is_read_as_ray_reads_it(env, protocol, validated) -> None:
    config = JobConfig(metadata={"a": "b"}, ray_namespace="ns", _client_job=True)
    config.set_runtime_env(env, validate=validated)
    config.set_py_logging_config(ray.LoggingConfig(encoding="JSON"))
    expected = RuntimeEnvSpec(
        config._get_serialized_runtime_env(), config._get_proto_runtime_env_config()
    )
    config.set_runtime_env(config.runtime_env)  # drops what was computed just now
    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert runtime_env_of(dumps(config, protocol=protocol)) == expected


def test_a_runtime_environment_that_is_not_valid_says_why() -> None:
    config = JobConfig(runtime_env={"pip": ["a"], "conda": "b"})
    with pytest.raises(BadJobConfig, match="cannot be specified at the same time"):
        runtime_env_of(pickle.dumps(config))


CODES = bytes(ord(code.code) for code in pickletools.opcodes)
GOOD = pickle.dumps(JobConfig(runtime_env={"env_vars": {"A": "1"}, "pip": ["a"]}))
# Instructions of every kind among bits that make sense.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [CONFIG, ENV, text("runtime_env"), text("pip"), b")\x81", b"}", b"(", b"q\x00"]
        ),
        st.sampled_from([CODES[at : at + 1] for at in range(len(CODES))]),
        st.binary(max_size=6),
    ),
    max_size=30,
).map(lambda pieces: made(*pieces))


@st.composite
def mutated(draw) -> bytes:
    """A real job config with a few bytes changed, put in or taken out."""
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


@given(st.one_of(st.binary(max_size=200), PIECES, mutated()))
@settings(max_examples=500, deadline=None)
def test_whatever_comes_is_read_or_refused(pickled: bytes) -> None:
    try:
        spec = runtime_env_of(pickled)
    except BadJobConfig as e:
        assert str(e).encode()
        return
    assert isinstance(spec.serialized, str)
    assert all(isinstance(uri, str) for uri in spec.packages)
