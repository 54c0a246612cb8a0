"""What is fuzzed: each target takes any bytes, and raises only if something is wrong.

A sequence of messages is written as pieces, each behind its length in one byte.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Sequence

from tests.fuzz import codecs, configs, streams


class Target(NamedTuple):
    """One thing that is fuzzed.

    Attributes:
        run: takes an input; whatever it raises is a finding.
        seeds: inputs to begin with.
        longest: bytes that an input may have.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    longest: int = 512


TARGETS: Dict[str, Target] = {
    "peek": Target(codecs.peeked, codecs.message_seeds, 256),
    "bridge": Target(codecs.passed_on, codecs.bridge_seeds, 1024),
    "first_message": Target(codecs.first_message, codecs.message_seeds, 256),
    "chunks": Target(codecs.chunks, codecs.chunk_seeds),
    "metadata": Target(codecs.metadata, codecs.metadata_seeds),
    "job_config": Target(configs.job_config, configs.seeds, 2048),
    "data_stream": Target(streams.data_stream, streams.seeds, 1024),
}
