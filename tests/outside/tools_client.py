"""The official Python SDK, through the door, to a real server of tools: in its older way and in the newest revision. Run by tools.py."""

import asyncio
import os
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

BASE, KEY = os.environ["BARTIZAN_MCP"], os.environ["BARTIZAN_KEY"]
failed = 0


def check(what, holds):
    global failed
    failed += not holds
    print(("ok   " if holds else "FAIL ") + what, flush=True)


async def converse(mode):
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        transport = streamable_http_client(BASE + "/mcp/everything", http_client=http)
        async with Client(transport, mode=mode) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            check(f"python, {mode}: {len(names)} tools are listed", "echo" in names and "get-env" not in names)
            answer = await client.call_tool("echo", {"message": "hällo"})
            check(f"python, {mode}: a call", answer.content[0].text == "Echo: hällo")
            try:
                await client.call_tool("get-tiny-image", {})
                check(f"python, {mode}: a refusal", False)
            except MCPError as error:
                check(f"python, {mode}: a refusal says why: {error.error.code}", error.error.data["reason"] == "forbidden")
            prompts = (await client.list_prompts()).prompts
            check(f"python, {mode}: {len(prompts)} prompts", len(prompts) > 0)
            resources = (await client.list_resources()).resources
            read = await client.read_resource(resources[0].uri)
            check(f"python, {mode}: a resource", len(read.contents) > 0)


async def main():
    for mode in ("legacy", "auto", "2026-07-28"):
        await converse(mode)
    sys.exit(failed > 0)


asyncio.run(main())
