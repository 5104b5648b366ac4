import pytest

from learning.dataset import masking
from learning.dataset.duplicates import without_near_duplicates
from learning.dataset.prepare import prepare
from learning.examples import Example, Message, Origin


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to Ines.Lopez@office.example.org today.", "Write to [e-mail] today."),
        ("Call +49 30 901820 or (415) 555-2671.", "Call [phone] or [phone]."),
        ("Pay to DE89 3704 0044 0532 0130 00.", "Pay to [account]."),
        ("Card 4111 1111 1111 1111 it is.", "Card [card] it is."),
        ("The password is hunter22, keep it.", "The password is [secret] keep it."),
        (
            "Clone https://bob:s3cretpass@git.example/x",  # pragma: allowlist secret
            "Clone https://bob:[secret]/x",
        ),
        ("The password for the wifi is hunter22.", "The password for the wifi is [secret]"),
        ("Das Passwort für das WLAN ist Hase2024!", "Das Passwort für das WLAN ist [secret]"),
        ("Passwort: Sommerregen!", "Passwort: [secret]"),
        ("pw: hunter22", "pw: [secret]"),
        (f"Use {'ghp_' + 'aB3' * 12} now.", "Use [secret] now."),
        (f"Use {'glpat-' + 'aB3_' * 5} now.", "Use [secret] now."),
        (f"Use {'hf_' + 'aBc' * 11} now.", "Use [secret] now."),
        (f"Use {'AIza' + 'aB3-_' * 7} now.", "Use [secret] now."),
        (f"Use {'sk-ant-api03-' + 'aB3' * 10} now.", "Use [secret] now."),
        (f"Use {'xoxb-' + '123456789012-' + 'aB3' * 8} now.", "Use [secret] now."),
        (
            f"Use {'eyJhbGciOiJIUzI1NiJ9.' + 'eyJzdWIiOiIxIn0.' + 'aB3-_' * 8} now.",
            "Use [secret] now.",
        ),
        (f"Authorization: Bearer {'aB3-_' * 6}", "Authorization: Bearer [secret]"),
        (f"aws_secret_access_key = {'aB3/+' * 8}", "aws_secret_access_key[secret]"),
        ("Key AKIAIOSFODNN7EXAMPLE.", "Key [secret]."),  # pragma: allowlist secret
        (
            "-----BEGIN RSA PRIVATE KEY-----\n"  # pragma: allowlist secret
            "abc\n-----END RSA PRIVATE KEY-----\nend",
            "[secret]\nend",
        ),
    ],
)
def test_secrets_and_personal_data_are_masked_and_their_places_listed(
    text: str, masked: str
) -> None:
    found, places = masking.mask(text, "US")
    assert found == masked
    assert len(places) == masked.count("[")
    assert all(0 <= place.start < place.end <= len(text) for place in places)


@pytest.mark.parametrize(
    "text",
    [
        "The code of the saw is B23.",
        "Part 5551234567 of series 2024-11-22 stands in hall 12.",
        "The password of the printer has 12 letters.",
        "The secret of the good weld is patience. Hall 12 knows.",
        "A token is about 4 letters.",
        "Ask host 192.168.1.100, port 8000, at 12:30.",
        "The access code of section 5 is 1126-NIMBUS [1].",
        "Torque 4155552671 units; order 4111111111111112.",
    ],
)
def test_technical_text_is_not_masked(text: str) -> None:
    assert masking.mask(text, "US") == (text, ())


def test_local_numbers_are_those_of_the_country() -> None:
    assert masking.mask("Call 030 1234567.", "DE")[0] == "Call [phone]."
    assert masking.mask("Call 030 1234567.", "US")[0] == "Call 030 1234567."


def make(question: str, answer: str, system: str = "") -> Example:
    prompt = (Message("system", system), Message("user", question))
    return Example(prompt, answer, "test", question, Origin(kind="rated answer", chat=question))


def test_the_prompt_is_masked_as_the_answer_is_and_the_list_holds_no_value() -> None:
    row = make(
        "Whom do I ask?",
        "Ask ines@office.example, who knows all that there is to know about the pump.",
        "Mail: ines@office.example",
    )
    ready = prepare([row], [], lambda _: True, "US")
    assert ready.examples[0].prompt[0].content == "Mail: [e-mail]"
    assert [(one.kind, one.place) for one in ready.masked] == [
        ("e-mail", "answer"),
        ("e-mail", "message 0"),
    ]
    assert "ines" not in repr(ready.masked)


def test_an_answer_that_is_mostly_secret_or_too_long_is_left_out_with_its_reason() -> None:
    rows = [
        make("Mail?", "ines@office.example"),
        make("Long?", "word " * 500),
        make("Fine?", "Yes."),
    ]
    ready = prepare(rows, [], lambda row: len(row.answer) < 1000, "US")
    assert [row.answer for row in ready.examples] == ["Yes."]
    assert ready.rejected == {
        "the answer is mostly secrets or personal data": 1,
        "longer than the recipe trains": 1,
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("Which code has the saw?", "It is B23."), ("Which code has the saw", "It's B23!"), True),
        (
            ("Wich code has the saw?", "The code is B23."),
            ("Which code has the saw?", "The code is B23."),
            True,
        ),
        (
            ("Which code has the saw?", "It is B23."),
            ("Which code has the saw?", "It is B24."),
            False,
        ),
        (
            ("Who checks the north pump station?", "Ines does it."),
            ("Who checks the south pump station?", "Ines does it."),
            False,
        ),
        (
            ("May we open the valve?", "Yes, you may open it."),
            ("May we open the valve?", "No, you may never open it."),
            False,
        ),
    ],
)
def test_only_equal_statements_are_near_duplicates(
    one: tuple[str, str], other: tuple[str, str], same: bool
) -> None:
    kept, count = without_near_duplicates((make(*one), make(*other)))
    assert (len(kept), count) == ((1, 1) if same else (2, 0))
    assert kept[-1].answer == other[1]
