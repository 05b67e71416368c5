"""The official Python SDK, through the door, to a real server of tools. Run by mcp.py."""

import asyncio
import os
import sys

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

BASE, KEY = os.environ["BARTIZAN_MCP"], os.environ["BARTIZAN_KEY"]
failed = 0


def check(what, holds):
    global failed
    failed += not holds
    print(("ok   " if holds else "FAIL ") + what, flush=True)


async def main():
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        async with streamable_http_client(BASE + "/mcp/everything", http_client=http) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                hello = await session.initialize()
                check("python: introduced", (getattr(hello, "server_info", None) or hello.serverInfo).name == "bartizan")
                names = [tool.name for tool in (await session.list_tools()).tools]
                check(f"python: {len(names)} tools are listed", "echo" in names and "get-env" not in names)
                answer = await session.call_tool("echo", {"message": "hi"})
                check("python: a call", answer.content[0].text == "Echo: hi")
                try:
                    await session.call_tool("get-env", {})
                    check("python: a refusal", False)
                except Exception as error:  # its class has another name in each version
                    check(f"python: a refusal says why ({type(error).__name__})", "forbid" in str(error).lower())
                prompts = (await session.list_prompts()).prompts
                check(f"python: {len(prompts)} prompts", len(prompts) > 0)
                resources = (await session.list_resources()).resources
                read = await session.read_resource(resources[0].uri)
                check("python: a resource", len(read.contents) > 0)
    sys.exit(failed > 0)


asyncio.run(main())
