// Strict client libraries in JavaScript against the authority.
import * as oauth from "oauth4webapi";
import * as oidc from "openid-client";
import { auth } from "@modelcontextprotocol/sdk/client/auth.js";

const { ISSUER, RESOURCE, BROWSER } = process.env;
const redirect = "http://127.0.0.1:7998/callback";
let passed = 0;
let failed = 0;

function check(what, holds, why = "") {
  if (holds) passed += 1;
  else failed += 1;
  console.log((holds ? "ok   " : "FAIL ") + what + (holds ? "" : ` ${why}`));
}

async function browse(url) {
  const answer = await fetch(`${BROWSER}/?url=${encodeURIComponent(url)}`);
  return new URL((await answer.json()).location);
}

async function refused(what, work) {
  try {
    await work();
    check(what, false, "it was taken");
  } catch (error) {
    check(what, true);
    return error;
  }
}

// openid-client: code, PKCE, pushed request, DPoP with nonces, ID token, refresh, a code that comes again.
async function openidClient() {
  const insecure = { execute: [oidc.allowInsecureRequests] };
  const config = await oidc.discovery(new URL(ISSUER), "bound", undefined, oidc.None(), insecure);
  const keys = await oidc.randomDPoPKeyPair("ES256");
  const DPoP = oidc.getDPoPHandle(config, keys);
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
  const expectedState = oidc.randomState();
  const expectedNonce = oidc.randomNonce();
  const parameters = {
    redirect_uri: redirect,
    scope: "openid profile offline_access",
    code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: expectedState,
    nonce: expectedNonce,
    resource: RESOURCE,
  };
  const url = await oidc.buildAuthorizationUrlWithPAR(config, parameters, { DPoP });
  check("openid-client: the request was pushed", url.searchParams.has("request_uri"));
  const back = await browse(url.href);
  const checks = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true };
  const tokens = await oidc.authorizationCodeGrant(config, back, checks, undefined, { DPoP });
  check("openid-client: a code becomes tokens bound to the key", tokens.token_type === "dpop", tokens.token_type);
  check("openid-client: the ID token holds", tokens.claims().iss === ISSUER);
  const about = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP });
  check("openid-client: user information", about.preferred_username === "alice");
  const next = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
  check("openid-client: a refresh token becomes the next", next.refresh_token !== tokens.refresh_token);
  const other = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair("ES256"));
  await refused("openid-client: a refresh token of another key is refused", () =>
    oidc.refreshTokenGrant(config, next.refresh_token, undefined, { DPoP: other }));
  await refused("openid-client: a code that comes again is refused", () =>
    oidc.authorizationCodeGrant(config, back, checks, undefined, { DPoP }));
  await refused("openid-client: and what came of it is dead", () =>
    oidc.refreshTokenGrant(config, next.refresh_token, undefined, { DPoP }));
  // An answer of another issuer is none of ours: the library sees it by `iss`.
  const mixed = new URL(back.href);
  mixed.searchParams.set("iss", "https://evil.example");
  await refused("openid-client: an answer that names another issuer is refused", () =>
    oidc.authorizationCodeGrant(config, mixed, checks, undefined, { DPoP }));
}

// oauth4webapi: a public client without discovery helpers, each step by itself.
async function oauth4webapi() {
  const insecure = { [oauth.allowInsecureRequests]: true };
  const issuer = new URL(ISSUER);
  const server = await oauth.processDiscoveryResponse(issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }));
  const client = { client_id: "public" };
  const verifier = oauth.generateRandomCodeVerifier();
  const challenge = await oauth.calculatePKCECodeChallenge(verifier);
  const url = new URL(server.authorization_endpoint);
  const state = oauth.generateRandomState();
  const parameters = { client_id: "public", response_type: "code", redirect_uri: redirect, scope: "model:list",
    code_challenge: challenge, code_challenge_method: "S256", state, resource: RESOURCE };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const back = await browse(url.href);
  const answer = oauth.validateAuthResponse(server, client, back, state);
  const response = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), answer, redirect, verifier, insecure);
  const tokens = await oauth.processAuthorizationCodeResponse(server, client, response);
  check("oauth4webapi: a code becomes a token", tokens.scope === "model:list" && tokens.expires_in <= 300);
  const models = await fetch(`${RESOURCE}/v1/models`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  check("oauth4webapi: the gateway takes the token", models.status === 200, `${models.status} ${await models.text()}`);
  url.searchParams.set("resource", "https://elsewhere.example");
  const target = await browse(url.href);
  await refused("oauth4webapi: a token for elsewhere is refused", () => oauth.validateAuthResponse(server, client, target, state));
}

// The MCP SDK: from the resource's metadata to a token.
async function mcp() {
  let saved;
  let verifier;
  let back;
  const provider = {
    redirectUrl: redirect,
    clientMetadata: { client_name: "test", redirect_uris: [redirect], token_endpoint_auth_method: "none" },
    clientInformation: () => ({ client_id: "public" }),
    tokens: () => saved,
    saveTokens: (tokens) => { saved = tokens; },
    redirectToAuthorization: async (url) => { back = await browse(url.href); },
    saveCodeVerifier: (text) => { verifier = text; },
    codeVerifier: () => verifier,
  };
  const first = await auth(provider, { serverUrl: RESOURCE, scope: "model:list" });
  check("MCP SDK (TypeScript): it sends the person to the authority", first === "REDIRECT");
  const authorizationCode = back.searchParams.get("code");
  const iss = back.searchParams.get("iss");
  const second = await auth(provider, { serverUrl: RESOURCE, authorizationCode, iss });
  check("MCP SDK (TypeScript): and comes back with a token", second === "AUTHORIZED" && saved.access_token);
}

for (const judge of [openidClient, oauth4webapi, mcp]) {
  try {
    await judge();
  } catch (error) {
    check(judge.name, false, `${error.stack} ${JSON.stringify(error.cause ?? {})} ${error.error ?? ""} ${error.error_description ?? ""}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
