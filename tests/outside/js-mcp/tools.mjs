// The official TypeScript SDK, through the door, to a real server of tools.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { BARTIZAN_MCP: base, BARTIZAN_KEY: key, BARTIZAN_KEY_NOBODY: nobody } = process.env;
let failed = 0;

function check(what, holds) {
  failed += holds ? 0 : 1;
  console.log((holds ? "ok   " : "FAIL ") + what);
}

async function connect(path, credential) {
  const client = new Client({ name: "outside", version: "1" }, { capabilities: { sampling: {}, roots: {} } });
  const headers = credential ? { Authorization: `Bearer ${credential}` } : {};
  const transport = new StreamableHTTPClientTransport(new URL(base + path), { requestInit: { headers } });
  await client.connect(transport);
  return { client, transport };
}

async function refused(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  return null;
}

const { client, transport } = await connect("/mcp/everything", key);
check("typescript: a session of ours", Boolean(transport.sessionId));
await client.ping();
const { tools } = await client.listTools();
const names = tools.map((tool) => tool.name);
check(`typescript: ${names.length} tools are listed`, names.includes("echo") && !names.includes("get-env"));
const echo = await client.callTool({ name: "echo", arguments: { message: "hällo" } });
check("typescript: a call", echo.content[0].text === "Echo: hällo");
check("typescript: its label", echo._meta["bartizan/label"].integrity === "untrusted");
const sum = await client.callTool({ name: "get-sum", arguments: { a: 2, b: 40 } });
check("typescript: arguments arrive as they are", sum.content[0].text.includes("42"));
const steps = [];
await client.callTool({ name: "trigger-long-running-operation", arguments: { duration: 1, steps: 4 } }, undefined, {
  onprogress: (progress) => steps.push(progress.progress),
});
check(`typescript: progress ${steps}`, steps.length >= 3 && steps.every((step, i) => step === i + 1));
const slow = new AbortController();
const taken = refused(() =>
  client.callTool({ name: "trigger-long-running-operation", arguments: { duration: 30, steps: 5 } }, undefined, { signal: slow.signal }),
);
setTimeout(() => slow.abort("enough"), 500);
check("typescript: a call is taken back", String(await taken).includes("enough"));
const forbidden = await refused(() => client.callTool({ name: "get-tiny-image", arguments: {} }));
check(`typescript: a refusal says why: ${forbidden?.data?.reason}`, forbidden?.data?.reason === "forbidden" && forbidden.data.receipt);
for (const name of ["no-such-tool", "get-env"]) {
  const unknown = await refused(() => client.callTool({ name, arguments: {} }));
  check(`typescript: ${name} is told as something that is not there`, unknown?.code === -32602 && unknown.data.reason === "tool_not_found");
}
const { prompts } = await client.listPrompts();
check(`typescript: ${prompts.length} prompts`, prompts.some((prompt) => prompt.name === "simple-prompt"));
const prompt = await client.getPrompt({ name: "simple-prompt" });
check("typescript: a prompt", prompt.messages.length > 0);
const { resources } = await client.listResources();
check(`typescript: ${resources.length} resources`, resources.length > 0);
const read = await client.readResource({ uri: resources[0].uri });
check("typescript: a resource", read.contents[0].uri === resources[0].uri);
const { resourceTemplates } = await client.listResourceTemplates();
check("typescript: templates", resourceTemplates.length > 0);
await transport.terminateSession();
await client.close();

const all = await connect("/mcp", key);
const joined = (await all.client.listTools()).tools.map((tool) => tool.name);
check("typescript: the endpoint of all servers", joined.includes("everything__echo"));
const other = await all.client.callTool({ name: "everything__echo", arguments: { message: "a" } });
check("typescript: a call there", other.content[0].text === "Echo: a");
await all.client.close();

const stranger = await refused(() => connect("/mcp/everything", nobody));
check(`typescript: nobody who may know of nothing: ${String(stranger).slice(0, 60)}`, String(stranger).includes("tool_not_found"));
process.exit(failed ? 1 : 0);
