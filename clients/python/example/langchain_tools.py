"""LangChain behind policy: a retriever that gives only what its caller may read, and tools that run only if their caller may.

The caller is who the application has authenticated. The model chooses neither the caller nor what is asked of policy about it.
"""

from __future__ import annotations

from typing import Any

from bartizan import Client, DecisionError, Question
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import ConfigDict


class GuardedRetriever(BaseRetriever):
    """Asks about every document that `inner` finds, all at once, and leaves out what is not a plain yes.

    This is a check after ranking, for stores that can do no better: prefer the filter in the store (`docs/filters.md`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: BaseRetriever
    client: Client
    subject: tuple[str, str]
    resource_type: str = "document"

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        found = [one for one in self.inner.invoke(query) if one.id]
        questions = [Question(self.subject, "read", (self.resource_type, str(one.id))) for one in found]
        try:
            answers = self.client.evaluate_all(questions)
        except DecisionError:
            return []
        return [one for one, answer in zip(found, answers) if answer.permits()]


def guarded(tool: BaseTool, client: Client, subject: tuple[str, str]) -> BaseTool:
    """The same tool, which asks before every call whether `subject` may use it with these arguments."""

    def ask(**arguments: Any) -> Any:
        question = Question(subject, "use", ("tool", tool.name), action_properties={"arguments": arguments})
        try:
            permitted = client.evaluate(question).permits()
        except DecisionError:
            permitted = False
        if not permitted:
            raise ToolException("Policy does not permit this call.")
        return tool.invoke(arguments)

    return StructuredTool.from_function(
        ask, name=tool.name, description=tool.description, args_schema=tool.args_schema, handle_tool_error=True
    )
