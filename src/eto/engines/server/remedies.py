"""What a user can do about a request that failed: one hint for each way to fail."""

from __future__ import annotations

from eto.engines.server.connection import LATER, Answer, Lost

TOO_LONG = ("context_length", "maximum context", "context window", "too long", "max_model_len")
"""How servers say that a conversation does not fit."""
SAME_COMMAND = "the same command goes on where this one stopped"


def too_long(answer: Answer) -> bool:
    """Whether a server refuses a request because its context does not hold it."""
    said = str(answer.content).lower()
    return answer.status in (400, 413, 422) and any(words in said for words in TOO_LONG)


def remedy(failed: Answer | Lost, section: str) -> str:
    """What to change. `section`: of the recipe, `rollout.server` or `rollout.chat`."""
    address = f"{section}.urls" if section == "rollout.server" else f"{section}.url"
    if isinstance(failed, Lost):
        return _of_lost(failed, section, address)
    if too_long(failed):
        return "set model.max_context to what the server holds, or start it with a longer context"
    status = failed.status
    if 300 <= status < 400:
        return f"give the address that it names in {address}"
    if status in (401, 403):
        return f"set {section}.key_variable to the environment variable that holds the key"
    if status in (404, 405):
        return f"correct {address} and {section}.model"
    if status == 413:
        return "have the server, or the proxy before it, take longer requests"
    if status in LATER:
        return f"lower {section}.requests, or raise {section}.retries"
    if status >= 500:
        return "see the server's own log"
    return "docs/engines.md says what a server must offer"


def _of_lost(lost: Lost, section: str, address: str) -> str:
    if lost.stalled:
        return f"raise {section}.seconds, or lower {section}.requests"
    if "CERTIFICATE_VERIFY_FAILED" in lost.problem:
        return f"name in SSL_CERT_FILE the certificate it is signed by, and in {address} the host it is for"
    if "SSL" in lost.problem:
        return f"where it speaks plain HTTP, give http:// in {address}"
    if not lost.problem.startswith("no connection"):
        return f"see the server's own log; where it speaks TLS, give https:// in {address}"
    return f"start it, or correct {address}"
