"""A process whose parent has died asks itself for an end, once: a second signal would end it before it has saved."""

import signal
from multiprocessing import Pipe

from cnntrain.app.workers import _Mouth


def test_an_orphan_asks_itself_once():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    try:
        ear, pipe = Pipe(duplex=False)
        mouth = _Mouth(pipe)
        mouth.say("say", 0, "a line")
        assert (ear.recv(), heard) == (("say", 0, "a line"), [])
        ear.close()
        for _ in range(3):
            mouth.say("say", 0, "another")
        assert heard == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGTERM, before)
