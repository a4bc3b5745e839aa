// An identity provider: node provider.mjs NPM PORT KEYS [SECONDS]. It signs by the private JWKs of the file KEYS, and
// gives access tokens that hold for so many seconds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [npm, port, keys, seconds = '600'] = process.argv.slice(2);
const { default: Provider, errors } = await import(pathToFileURL(join(npm, 'node_modules/oidc-provider/lib/index.js')));

const RESOURCES = {
  'urn:lacus': { audience: 'lacus', accessTokenFormat: 'jwt' },
  'urn:other': { audience: 'other', accessTokenFormat: 'jwt' },
  'urn:opaque': { audience: 'lacus', accessTokenFormat: 'opaque' },
};
const SCOPES = ['storage.read:/', 'storage.read:/open', 'storage.modify:/open', 'read:/open'];
const GROUPS = { beamline: ['plasma'], ada: ['plasma', 'operators'] };

const machine = (name) => ({
  client_id: name,
  client_secret: `${name}-secret`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(readFileSync(keys, 'utf8')),
  cookies: { keys: ['of a test'] },
  clients: [
    machine('beamline'),
    machine('beamline-es'),
    machine('lacus'),
    {
      client_id: 'lacus-cli',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ['openid', 'offline_access'],
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  extraTokenClaims: (ctx, token) => {
    const name = token.accountId ?? token.clientId;
    return { groups: GROUPS[name] ?? [], email: `${name}@lab.example` };
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => oneOf ?? 'urn:lacus',
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource, client) => {
        if (!RESOURCES[resource]) throw new errors.InvalidTarget();
        return {
          ...RESOURCES[resource],
          scope: SCOPES.join(' '),
          accessTokenTTL: Number(seconds),
          jwt: { sign: { alg: client.clientId === 'beamline-es' ? 'ES256' : 'RS256' } },
        };
      },
    },
  },
});

provider.on('server_error', (ctx, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
