"""The one event that is written without its model is what the model would have written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import encode, encode_token
from shared.events import Token
from shared.ids import new_job_id
from shared.times import utc_now

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
awkward = st.sampled_from(["\n", "\r\n", "\u2028", "\x00", "\x7f", "𝄞", "\\", '"', "data: x\n\n"])


@settings(deadline=None, print_blob=True)
@given(content=text | awkward, deltas=st.integers(1, 2**31), attempt=st.integers(0, 99))
def test_a_token_is_encoded_as_any_other_event(content: str, deltas: int, attempt: int) -> None:
    job_id, at = new_job_id(3), utc_now()
    token = Token(job_id=job_id, seq=7, attempt=attempt, at=at, content=content, deltas=deltas)
    said = encode_token(job_id, 7, attempt, at=at, content=content, deltas=deltas)
    assert said == encode(token)
