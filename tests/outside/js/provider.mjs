// Another provider of identity, for login.mjs: oidc-provider with a login page of two buttons. Run as a process of its own, so that its
// clock can be wrong: `node provider.mjs PORT CALLBACK SECRET`. `POST /control` changes what it does from then on.

import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import Provider from "oidc-provider";

const [port, callback, secret] = process.argv.slice(2);
const issuer = `http://localhost:${port}`;

// What the tests change: seconds that its clock is ahead, the keys that it publishes, whom it names as issuer in its answers.
const state = { ahead: 0, keys: "true", iss: null, accounts: {} };
const now = Date.now;
Date.now = () => now() + state.ahead * 1000;

function key(kid) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig", kid };
}

function made(kid) {
  const provider = new Provider(issuer, {
    clients: [{ client_id: "bartizan", client_secret: secret, redirect_uris: [callback], response_types: ["code"], grant_types: ["authorization_code"],
      token_endpoint_auth_method: "client_secret_basic", id_token_signed_response_alg: "ES256", require_auth_time: true }],
    jwks: { keys: [key(kid)] },
    enabledJWA: { idTokenSigningAlgValues: ["ES256"] },
    // What is asked for stands in the ID token, beside an access token too.
    conformIdTokenClaims: false,
    scopes: ["openid", "profile", "groups"],
    claims: { openid: ["sub"], acr: null, auth_time: null, profile: ["preferred_username", "hd"], groups: ["groups"] },
    acrValues: ["gold", "silver"],
    pkce: { required: () => true },
    cookies: { keys: ["for the tests alone"] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => (state.accounts[id] ? { accountId: id, claims: () => ({ sub: id, ...state.accounts[id].claims }) } : undefined),
  });
  provider.on("server_error", (_, error) => console.error("provider:", error));
  return provider;
}

let rotations = 1;
let provider = made("key-1");
const another = made("key-of-somebody-else");

async function interaction(request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method === "GET") {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(`<!doctype html><html lang="en"><title>Other provider</title><h1>Other provider</h1><form method="post"><label>Account <input name="account"></label>
      <button name="answer" value="go">Continue</button> <button name="answer" value="cancel">Cancel</button></form></html>`);
    return;
  }
  const form = new URLSearchParams(await text(request));
  if (form.get("answer") === "cancel") {
    await provider.interactionFinished(request, response, { error: "access_denied", error_description: "The person did not want to." }, { mergeWithLastSubmission: false });
    return;
  }
  const accountId = form.get("account");
  const grant = new provider.Grant({ accountId, clientId: details.params.client_id });
  grant.addOIDCScope(details.params.scope);
  const result = { login: { accountId, remember: false, acr: state.accounts[accountId].acr, amr: ["pwd", "otp"] }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

createServer(async (request, response) => {
  try {
    if (request.url === "/control") {
      const { rotate, ...changes } = JSON.parse(await text(request));
      Object.assign(state, changes);
      if (rotate) {
        rotations += 1;
        provider = made(`key-${rotations}`);
      }
      response.end("{}");
    } else if (request.url.startsWith("/interaction/")) {
      await interaction(request, response);
    } else if (request.url === "/jwks" && state.keys === "others") {
      another.callback()(request, response);
    } else {
      if (state.iss) {
        const set = response.setHeader.bind(response);
        const changed = (value) => String(value).replace(/([?&]iss=)[^&]*/, `$1${encodeURIComponent(state.iss)}`);
        response.setHeader = (name, value) => set(name, name.toLowerCase() === "location" ? changed(value) : value);
      }
      provider.callback()(request, response);
    }
  } catch (error) {
    console.error("provider:", error);
    response.statusCode = 500;
    response.end("broken");
  }
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));
