"""A server of tools with everything that the MCP conformance suite asks a server for, on the official Python SDK: in the revisions
with sessions and in 2026-07-28. Run by tools.py behind the door; listens on 127.0.0.1:PORT, path /mcp."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import struct
import zlib

import mcp_types as types
import uvicorn
from mcp import MCPError
from mcp.server.lowlevel import Server

KEY = os.urandom(32)
EMPTY = {"type": "object", "properties": {}}


def png():
    """One red pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")


PIXEL = base64.b64encode(png()).decode()
SILENCE = base64.b64encode(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 0)).decode()


def text(words):
    return {"type": "text", "text": words}


def embedded(uri, mime, words):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": words}}


IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
STILL = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}],
    "test_embedded_resource": [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        text("Multiple content types test:"), IMAGE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
}
DEFAULTS = {"type": "object", "properties": {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}}


def titled(values, titles):
    return [{"const": value, "title": title} for value, title in zip(values, titles)]


ENUMS = {"type": "object", "properties": {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": titled(["value1", "value2", "value3"], ["First Option", "Second Option", "Third Option"])},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled(["value1", "value2", "value3"], ["First Choice", "Second Choice", "Third Choice"])}},
}}
SCHEMA_2020 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"}, "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]}, "else": {"required": ["email"]}, "additionalProperties": False,
}


def elicitation(message, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(words, most):
    return {"method": "sampling/createMessage", "params": {"messages": [{"role": "user", "content": text(words)}], "maxTokens": most}}


ROOTS = {"method": "roots/list", "params": {}}
NAME = {"type": "string"}


def seal(state):
    return state + "." + hmac.new(KEY, state.encode(), hashlib.sha256).hexdigest()


def unseal(sealed):
    state, _, mac = (sealed or "").rpartition(".")
    if not hmac.compare_digest(mac, hmac.new(KEY, state.encode(), hashlib.sha256).hexdigest()):
        raise MCPError(types.INVALID_PARAMS, "the state was tampered with")
    return state


def ask(state=None, **requests):
    return types.InputRequiredResult.model_validate({"inputRequests": requests or None, "requestState": state})


def filled(responses, key, member):
    """The member of an accepted form, if that is what stands there."""
    answer = responses.get(key)
    content = answer.get("content") if isinstance(answer, dict) and answer.get("action") == "accept" else None
    value = content.get(member) if isinstance(content, dict) else None
    return value


def rounds(name, params, capabilities):
    """Tools that ask back (SEP-2322)."""
    raw = params.model_dump(by_alias=True, mode="json", exclude_none=True)
    responses, state = raw.get("inputResponses") or {}, params.request_state
    name = name.removeprefix("test_input_required_result_")
    if name == "elicitation":
        given = filled(responses, "user_name", "name")
        return [text(f"Hello, {given}!")] if given else ask(user_name=elicitation("What is your name?", name=NAME))
    if name == "sampling":
        answer = responses.get("capital_question")
        return [text(json.dumps(answer))] if answer else ask(capital_question=sampling("What is the capital of France?", 100))
    if name == "list_roots":
        answer = responses.get("client_roots")
        return [text(json.dumps(answer))] if answer else ask(client_roots=ROOTS)
    if name == "request_state":
        if responses and unseal(state) == "asked":
            return [text("state-ok")]
        return ask(seal("asked"), confirm=elicitation("Please confirm", ok={"type": "boolean"}))
    if name == "tampered_state":
        if state is not None:
            return [text(unseal(state))]
        return ask(seal("asked"), confirm=elicitation("Please confirm", ok={"type": "boolean"}))
    if name == "multiple_inputs":
        if len(responses) >= 3 and unseal(state) == "asked":
            return [text(json.dumps(sorted(responses)))]
        return ask(
            seal("asked"), user_name=elicitation("What is your name?", name=NAME),
            greeting=sampling("Generate a greeting", 50), client_roots=ROOTS,
        )
    if name == "multi_round":
        step = unseal(state) if state else "0"
        if step == "1" and "step1" in responses:
            return ask(seal("2"), step2=elicitation("Step 2: What is your favorite color?", color=NAME))
        if step == "2" and "step2" in responses:
            return [text("all rounds done")]
        return ask(seal("1"), step1=elicitation("Step 1: What is your name?", name=NAME))
    # What the client cannot be asked is not asked.
    can = {"elicitation": elicitation("Your name?", name=NAME), "sampling": sampling("Say hello", 20), "roots": ROOTS}
    asked = {f"by_{what}": request for what, request in can.items() if what in capabilities}
    return [text(json.dumps(sorted(responses)))] if responses or not asked else ask(**asked)


MRTR = [
    "elicitation", "sampling", "list_roots", "request_state", "multiple_inputs", "multi_round", "tampered_state", "capabilities",
]
TOOLS = {name: EMPTY for name in [
    *STILL, "test_tool_with_logging", "test_error_handling", "test_tool_with_progress", "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums", "test_reconnection", "test_missing_capability", "test_streaming_elicitation", "test_logging_tool", *(f"test_input_required_result_{name}" for name in MRTR),
]} | {
    "test_sampling": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
    "json_schema_2020_12_tool": SCHEMA_2020,
    "test_custom_headers": {
        "type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}, "required": ["region"],
    },
}


async def list_tools(_ctx, _params):
    tools = [{"name": name, "description": f"For {name}.", "inputSchema": schema} for name, schema in TOOLS.items()]
    return types.ListToolsResult.model_validate({"tools": tools})


async def elicit(ctx, message, schema):
    answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content or {})}"


async def work(ctx, name, arguments):
    if name in STILL:
        return STILL[name]
    if name == "test_error_handling":
        raise RuntimeError("This tool intentionally returns an error for testing")
    if name in ("test_tool_with_logging", "test_logging_tool"):
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
            await asyncio.sleep(0.05)
        return [text("Tool with logging executed successfully")]
    if name == "test_tool_with_progress":
        for progress in (0, 50, 100):
            await ctx.session.report_progress(progress, 100, f"step {progress}")
            await asyncio.sleep(0.05)
        return [text("done")]
    if name == "test_reconnection":
        if ctx.close_sse_stream:
            await ctx.close_sse_stream()
        await asyncio.sleep(0.1)
        return [text("Reconnection test completed successfully.")]
    if name == "test_sampling":
        message = types.SamplingMessage(role="user", content=types.TextContent(text=arguments["prompt"]))
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return [text(f"LLM response: {answer.content.text}")]
    if name == "test_elicitation":
        described = {"username": {"type": "string", "description": "User's response"}, "email": {"type": "string", "description": "User's email address"}}
        schema = {"type": "object", "properties": described, "required": ["username", "email"]}
        return [text("User response: " + await elicit(ctx, arguments["message"], schema))]
    if name == "test_elicitation_sep1034_defaults":
        return [text("Elicitation completed: " + await elicit(ctx, "Please review the form", DEFAULTS))]
    if name == "test_elicitation_sep1330_enums":
        return [text("Elicitation completed: " + await elicit(ctx, "Please choose", ENUMS))]
    return [text(json.dumps(arguments))]


async def call_tool(ctx, params):
    name = params.name
    if name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {name}")
    capabilities = ctx.session.client_capabilities
    can = capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}
    if name == "test_missing_capability" and "sampling" not in can:
        raise MCPError(-32021, "this needs sampling", {"requiredCapabilities": {"sampling": {}}})
    if name == "test_streaming_elicitation":
        return ask(user_name=elicitation("What is your name?", name=NAME))
    if name.startswith("test_input_required_result_"):
        result = rounds(name, params, can)
        if isinstance(result, types.InputRequiredResult):
            return result
        return types.CallToolResult.model_validate({"content": result})
    try:
        return types.CallToolResult.model_validate({"content": await work(ctx, name, params.arguments or {})})
    except Exception as error:
        return types.CallToolResult.model_validate({"content": [text(str(error))], "isError": True})


RESOURCES = {"test://static-text": "text/plain", "test://static-binary": "image/png", "test://watched-resource": "text/plain"}


async def list_resources(_ctx, _params):
    resources = [{"uri": uri, "name": uri.partition("//")[2], "mimeType": mime} for uri, mime in RESOURCES.items()]
    return types.ListResourcesResult.model_validate({"resources": resources})


async def list_templates(_ctx, _params):
    template = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": [template]})


async def read_resource(_ctx, params):
    uri = str(params.uri)
    if uri == "test://static-binary":
        content = {"uri": uri, "mimeType": "image/png", "blob": PIXEL}
    elif uri in RESOURCES:
        words = "This is the content of the static text resource." if uri.endswith("static-text") else "Watched resource content"
        content = {"uri": uri, "mimeType": "text/plain", "text": words}
    elif uri.startswith("test://template/") and uri.endswith("/data"):
        place = uri.removeprefix("test://template/").removesuffix("/data")
        words = json.dumps({"id": place, "templateTest": True, "data": f"Data for ID: {place}"})
        content = {"uri": uri, "mimeType": "application/json", "text": words}
    else:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [content]})


async def watch(_ctx, _params):
    return types.EmptyResult()


PROMPTS = {
    "test_simple_prompt": [], "test_prompt_with_arguments": ["arg1", "arg2"], "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [], "test_input_required_result_prompt": [],
}


async def list_prompts(_ctx, _params):
    prompts = [
        {"name": name, "description": f"For {name}.", "arguments": [{"name": one, "required": True} for one in arguments]}
        for name, arguments in PROMPTS.items()
    ]
    return types.ListPromptsResult.model_validate({"prompts": prompts})


async def get_prompt(_ctx, params):
    given = params.arguments or {}
    if params.name == "test_input_required_result_prompt":
        raw = params.model_dump(by_alias=True, mode="json", exclude_none=True)
        context = filled(raw.get("inputResponses") or {}, "user_context", "context")
        if context is None:
            return ask(user_context=elicitation("What context should the prompt use?", context=NAME))
        contents = [text(f"Context: {context}")]
    elif params.name == "test_simple_prompt":
        contents = [text("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        contents = [text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
    elif params.name == "test_prompt_with_embedded_resource":
        contents = [
            embedded(given.get("resourceUri", "test://x"), "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ]
    elif params.name == "test_prompt_with_image":
        contents = [IMAGE, text("Please analyze the image above.")]
    else:
        raise MCPError(types.INVALID_PARAMS, f"there is no prompt {params.name}")
    return types.GetPromptResult.model_validate({"messages": [{"role": "user", "content": content} for content in contents]})


async def complete(_ctx, params):
    values = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return types.CompleteResult.model_validate({"completion": {"values": values, "total": len(values), "hasMore": False}})


async def set_level(_ctx, _params):
    return types.EmptyResult()


server = Server(
    "conformance", version="1", on_list_tools=list_tools, on_call_tool=call_tool, on_list_resources=list_resources,
    on_list_resource_templates=list_templates, on_read_resource=read_resource, on_subscribe_resource=watch,
    on_unsubscribe_resource=watch, on_list_prompts=list_prompts, on_get_prompt=get_prompt, on_completion=complete,
    on_set_logging_level=set_level,
)
if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
