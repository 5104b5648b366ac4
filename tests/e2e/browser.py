"""A member of the team in a real browser: every way to teach on Open WebUI's pages, by clicks
and keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MILLISECONDS = 120_000


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Member:
    """One person's window. An answer is named by its index in the chat; the last is -1."""

    page: Page

    @classmethod
    def sign_in(cls, browser: Browser, url: str, email: str, password: str) -> Member:
        # test_https.py tests who trusts the site's own authority
        context = browser.new_context(
            locale="en-US", viewport={"width": 1400, "height": 1000}, ignore_https_errors=True
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        page.goto(f"{url}/auth")
        page.locator('input[type="email"]').fill(email)
        page.locator('input[type="password"]').fill(password)
        page.locator('button[type="submit"]').click()
        member = cls(page)
        member.dismiss_news()
        return member

    def dismiss_news(self) -> None:
        expect(self.page.locator("#chat-input")).to_be_visible()
        news = self.page.get_by_role("button", name=re.compile("Okay, Let's Go!"))
        if news.count():
            news.first.click()

    def new_chat(self) -> None:
        self.page.goto(self.page.url.split("/c/")[0].rstrip("/") + "/")
        expect(self.page.locator("#chat-input")).to_be_visible()

    def first_words(self) -> str:
        """What an empty chat shows: the assistant, how to teach it, and suggestions."""
        expect(self.page.locator("#suggestions-heading")).to_be_visible()
        return self.page.locator("main, body").last.inner_text()

    def offered_models(self) -> list[str]:
        """The entries of the model picker."""
        self.page.locator("#model-selector-model-button").click()
        options = self.page.locator('[id^="model-option-"]')
        expect(options.first).to_be_visible()
        names = [str(option.get_attribute("aria-label")) for option in options.all()]
        options.first.click()
        return names

    # ------------------------------------------------------------------ asking

    def answers(self) -> Locator:
        """Answers are the messages with a thumb."""
        return self.page.locator('[id^="message-"]').filter(
            has=self.page.locator('button[aria-label="Good Response"]')
        )

    def ask(self, question: str) -> None:
        before = self.answers().count()
        self.page.locator("#chat-input").click()
        self.page.keyboard.type(question)
        self.page.keyboard.press("Enter")
        expect(self.answers()).to_have_count(before + 1)

    @property
    def last(self) -> Locator:
        """The last answer, by its ID: an answer that is being edited has no thumb."""
        return self.page.locator(f"id={self.answers().last.get_attribute('id')}")

    def text(self) -> str:
        """The words of the last answer; its sources are below them in the same box."""
        return "\n".join(
            self.last.locator("#response-content-container p").all_inner_texts()
        ).strip()

    @property
    def chat_id(self) -> str:
        self.page.wait_for_url(re.compile("/c/"))
        return self.page.url.rsplit("/", 1)[1]

    # ------------------------------------------------------------------ teaching

    def press(self, name: str) -> None:
        self.last.hover()
        self.last.get_by_role("button", name=name, exact=True).first.click()

    def thumb(self, up: bool) -> None:
        with self.page.expect_response(re.compile("/api/v1/evaluations/feedback")):
            self.press("Good Response" if up else "Bad Response")

    def say_why(self, score: int, reason: str, comment: str) -> None:
        """Fills in the form that opens after a thumb."""
        form = self.page.locator('[id^="message-feedback-"]')
        form.get_by_role("button", name=f"Rate {score} out of 10", exact=True).click()
        form.get_by_role("button", name=reason, exact=True).click()
        form.get_by_role("textbox", name="Additional feedback comments").fill(comment)
        with self.page.expect_response(re.compile("/api/v1/evaluations/feedback/")):
            form.get_by_role("button", name="Save", exact=True).click()
        expect(form).to_have_count(0)

    def edit(self, text: str, copy: bool) -> None:
        """Changes the answer, as a copy beside it or in its place."""
        answer = self.last
        self.press("Edit")
        answer.locator("textarea").first.fill(text)
        with self.page.expect_response(
            lambda answer: "/api/v1/chats/" in answer.url and answer.request.method == "POST"
        ):
            self.page.locator(
                "#save-new-message-button" if copy else "#confirm-edit-message-button"
            ).click()
        expect(self.last.locator("#response-content-container")).to_contain_text(text)

    def ask_again(self) -> None:
        """Regenerates the answer to the same question."""
        self.press("Regenerate")
        self.page.get_by_text("Try Again", exact=True).click()
        expect(self.last.get_by_text("2/2")).to_be_visible()
        expect(self.last.get_by_role("button", name="Regenerate", exact=True).first).to_be_visible()


def delete_newest_rating(browser: Browser, url: str, email: str, password: str) -> str:
    """Deletes a rating as an administrator, on the page of all ratings. Returns its ID."""
    page = Member.sign_in(browser, url, email, password).page
    page.goto(f"{url}/admin/evaluations/feedback")
    page.locator("tbody tr").first.locator("button").last.click()
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as answer:
        page.get_by_text("Delete", exact=True).click()
    return answer.value.url.rsplit("/", 1)[1]
