// An application that shows orders to those whom policy lets see them. Who somebody is, its own login would say; here a table of test
// tokens stands for that.

import { createServer } from "node:http";

import { Client, guard } from "@bartizan/client";

const USERS = JSON.parse(process.env.EXAMPLE_USERS ?? "{}");
const ORDERS = { small: { id: "small", note: "call ann@mail.example" }, large: { id: "large", note: "-" } };
const redacted = new WeakSet();

const name = (request) => new URL(request.url).pathname.slice("/orders/".length);

const handle = guard(
  {
    client: new Client({ base: process.env.BARTIZAN_URL, key: process.env.BARTIZAN_API_KEY }),
    question(request) {
      const user = USERS[(request.headers.get("authorization") ?? "").replace(/^Bearer /, "")];
      if (user === undefined || !new URL(request.url).pathname.startsWith("/orders/")) return undefined;
      const action = { name: request.method === "DELETE" ? "void" : "view" };
      return { subject: { type: "person", id: user }, action, resource: { type: "order", id: name(request) } };
    },
    // Notes can hold personal data: they are left out.
    obligations: { redact: (request) => Boolean(redacted.add(request)) },
  },
  (request) => {
    const order = ORDERS[name(request)];
    if (order === undefined) return new Response("{}", { status: 404 });
    const { note, ...rest } = order;
    return Response.json(redacted.has(request) ? rest : { ...rest, note });
  },
);

const server = createServer(async (request, response) => {
  const answer = await handle(new Request(`http://localhost${request.url}`, { method: request.method, headers: request.headers }));
  response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
});
server.listen(Number(process.argv[2]), "127.0.0.1");
