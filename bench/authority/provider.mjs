// oidc-provider as it is measured: everything in memory, nothing kept over a restart (its own adapter of that kind forgets all but
// the last thousand things, among them logins that are still needed), and access tokens that are JWTs under Ed25519. It has no token exchange of its own: the grant here does the least that RFC 8693 asks for (the subject's
// token is verified, the client becomes the actor, scope and life shrink).
import { generateKeyPairSync, createPublicKey, verify as verifySignature } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import Provider, { errors } from 'oidc-provider';

const [port, ready, logins] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])];
const issuer = `http://127.0.0.1:${port}`;
const resource = 'https://gateway.example';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const { privateKey } = generateKeyPairSync('ed25519');
const jwk = { ...privateKey.export({ format: 'jwk' }), alg: 'EdDSA', use: 'sig', kid: 'bench' };
const publicKey = createPublicKey(privateKey);

const kept = new Map();
const byGrant = new Map();

class InMemory {
  constructor(model) { this.model = model; }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) {
    kept.set(this.key(id), payload);
    if (payload.grantId) byGrant.set(payload.grantId, [...(byGrant.get(payload.grantId) ?? []).slice(-10), this.key(id)]);
  }

  async find(id) { return kept.get(this.key(id)); }

  async findByUid(uid) { return [...kept.values()].find((payload) => payload.uid === uid); }

  async findByUserCode(code) { return [...kept.values()].find((payload) => payload.userCode === code); }

  async consume(id) { kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { kept.delete(this.key(id)); }

  async revokeByGrantId(grantId) {
    for (const key of byGrant.get(grantId) ?? []) kept.delete(key);
    byGrant.delete(grantId);
  }
}

const provider = new Provider(issuer, {
  adapter: InMemory,
  clients: [{
    client_id: 'bench-app',
    client_secret: '0123456789abcdef0123456789abcdef',
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['client_credentials', 'refresh_token', 'authorization_code', EXCHANGE],
    redirect_uris: ['https://app.example/cb'],
    response_types: ['code'],
    scope: 'model:invoke offline_access openid',
    id_token_signed_response_alg: 'EdDSA',
  }],
  scopes: ['openid', 'offline_access', 'model:invoke'],
  jwks: { keys: [jwk] },
  rotateRefreshToken: true,
  enabledJWA: { idTokenSigningAlgValues: ['EdDSA'] },
  ttl: { AccessToken: 300, ClientCredentials: 300, RefreshToken: 2_592_000, Grant: 2_592_000 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'model:invoke', accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'EdDSA' } },
      }),
    },
  },
});

provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { subject_token: token, scope } = ctx.oidc.params;
  const [head, body, signature] = String(token).split('.');
  if (!verifySignature(null, Buffer.from(`${head}.${body}`), publicKey, Buffer.from(signature ?? '', 'base64url'))) {
    throw new errors.InvalidGrant('subject_token');
  }
  const claims = JSON.parse(Buffer.from(body, 'base64url'));
  if (claims.iss !== issuer || claims.exp <= Date.now() / 1000 || claims.aud !== resource) {
    throw new errors.InvalidGrant('subject_token');
  }
  const { AccessToken } = ctx.oidc.provider;
  const granted = (claims.scope ?? '').split(' ').filter((s) => (scope ?? 'model:invoke').split(' ').includes(s));
  const made = new AccessToken({
    accountId: claims.sub, client: ctx.oidc.client, grantId: 'exchange', gty: 'exchange', scope: granted.join(' '),
    extra: { act: { sub: ctx.oidc.client.clientId } },
    expiresIn: Math.min(300, claims.exp - Math.floor(Date.now() / 1000)),
  });
  made.resourceServer = new ctx.oidc.provider.ResourceServer(resource, {
    scope: 'model:invoke', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'EdDSA' } },
  });
  ctx.body = {
    access_token: await made.save(), expires_in: 300, token_type: 'Bearer', scope: made.scope,
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  };
}, ['subject_token', 'subject_token_type', 'scope', 'resource', 'audience'], ['resource', 'audience']);

const client = await provider.Client.find('bench-app');
const refresh = [];
let subject;
for (let login = 0; login < logins; login += 1) {
  const grant = new provider.Grant({ accountId: 'alice', clientId: 'bench-app' });
  grant.addOIDCScope('offline_access');
  grant.addResourceScope(resource, 'model:invoke');
  const grantId = await grant.save();
  const token = new provider.RefreshToken({
    accountId: 'alice', client, grantId, gty: 'authorization_code', scope: 'offline_access model:invoke', resource,
    authTime: Math.floor(Date.now() / 1000), iiat: Math.floor(Date.now() / 1000), rotations: 0,
  });
  refresh.push(await token.save());
  if (!subject) {
    const access = new provider.AccessToken({
      accountId: 'alice', client, grantId, gty: 'authorization_code', scope: 'model:invoke',
    });
    access.resourceServer = new provider.ResourceServer(resource, {
      scope: 'model:invoke', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'EdDSA' } },
    });
    subject = await access.save();
  }
}
provider.listen(port, '127.0.0.1', () => writeFileSync(ready, JSON.stringify({ path: '/token', refresh, subject })));
