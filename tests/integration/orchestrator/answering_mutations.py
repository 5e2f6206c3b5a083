"""The mechanisms of memory, retrieval and tools, and their guards."""

from __future__ import annotations

from services.orchestrator.finder import ThreadFinder
from services.orchestrator.former_results import Uses
from services.orchestrator.graph import context, generating
from services.orchestrator.off_loop import OffLoop
from services.orchestrator.summaries import ThreadSummaries
from services.orchestrator.toolbox import Toolbox
from tests.integration.orchestrator import test_retrieval as retrieving
from tests.integration.orchestrator import test_summaries as remembering
from tests.integration.orchestrator import test_tool_results as results
from tests.integration.orchestrator import test_tools as tools
from tests.integration.orchestrator.leaving_mutations import Mutation

ANSWERING: dict[str, Mutation] = {
    "a summary is nobody else's": (
        context._cut,
        "ports.say(",
        "dict(event=",
        remembering.test_the_next_attempt_uses_the_summary_of_the_one_before,
    ),
    "what is summed up fills the window": (
        context._cut,
        "newest(turns[-TURNS_MAX // KEPT_SHARE :], place.room // KEPT_SHARE)",
        "newest(turns, left)",
        remembering.test_a_thread_is_summed_up_once_in_a_while_and_nothing_is_lost,
    ),
    "the archive's summary is not read": (
        ThreadSummaries._standing,
        "if summary is None and history.archived:",
        "if False:",
        remembering.test_a_summary_is_read_from_the_archive,
    ),
    "a model that sums nothing up fails the job": (
        ThreadSummaries.make,
        "except ModelError as error:",
        "except ZeroDivisionError as error:",
        remembering.test_what_cannot_be_summed_up_is_left_out,
    ),
    "a summary takes its time": (
        ThreadSummaries.make,
        "asyncio.timeout(SUMMARY_SECONDS_MAX)",
        "asyncio.timeout(None)",
        remembering.test_a_slow_summary_is_not_waited_for,
    ),
    "messages are found that are shown": (
        ThreadFinder._messages,
        "self.question, before, hidden",
        "self.question, self.question, hidden",
        retrieving.test_messages_beyond_the_window_are_found_and_those_in_it_are_not,
    ),
    "a tool may take for ever": (
        Toolbox._answer,
        "asyncio.timeout(tool.seconds_max)",
        "asyncio.timeout(None)",
        tools.test_a_tool_that_does_not_answer_is_left,
    ),
    "a defect of a tool is the job's": (
        Toolbox._answer,
        "except Exception:",
        "except ZeroDivisionError:",
        tools.test_a_tool_that_fails_has_an_error_for_a_result,
    ),
    "a tool blocks the event loop": (
        OffLoop.run,
        'threading.Thread(target=work, name="off-loop", daemon=True).start()',
        "work()",
        tools.test_a_tool_that_blocks_holds_nobody_up,
    ),
    "a tool is asked again": (
        Toolbox.use,
        "if known is not None:",
        "if False:",
        results.test_only_what_was_answered_is_used_again,
    ),
    "calls alike are one call": (
        Uses.next,
        "return Use(*alike, self._seen[alike])",
        "return Use(*alike, 1)",
        results.test_only_what_was_answered_is_used_again,
    ),
    "a model that will not answer is asked for ever": (
        generating._in_all,
        'return Completion("tool_rounds", usage)',
        "pass",
        tools.test_a_model_that_will_not_answer_is_asked_no_more,
    ),
    "the last round counts alone": (
        generating._in_all,
        "usage = _sum(before, completion.usage)",
        "usage = completion.usage",
        tools.test_text_around_tools_is_one_answer_and_usage_is_that_of_all_rounds,
    ),
}
