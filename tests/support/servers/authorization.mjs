// An authorization server that nobody here wrote (oidc-provider), set up as Google behaves, or as an MCP server's.
//
// node authorization.mjs MODULES google|mcp OPTIONS(JSON): prints its port. /_control tells and changes what happens.
import http from "node:http";
import https from "node:https";
import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, mode, given] = process.argv.slice(2);
const options = JSON.parse(given ?? "{}");
const require = createRequire(modules + "/");
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);
console.warn = console.info = () => {};

const google = mode === "google";
const G = "https://www.googleapis.com/auth/";
const named = { email: G + "userinfo.email", profile: G + "userinfo.profile" };
const journal = [];
let fault = {}; // path -> {status, error, times, delay, hold}

const server = google
  ? https.createServer({ key: fs.readFileSync(options.key), cert: fs.readFileSync(options.cert) })
  : http.createServer();
await new Promise((done) => server.listen(options.port ?? 0, "127.0.0.1", done));
const port = server.address().port;
const issuer = `${google ? "https" : "http"}://127.0.0.1:${port}`;
const noteScopes = ["notes:read", "notes:write"];

const provider = new Provider(issuer, {
  clients: options.clients ?? [],
  scopes: ["openid", "offline_access", ...(options.scopes ?? [])],
  claims: { openid: ["sub"], email: ["email"] },
  conformIdTokenClaims: false,
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: id }) }),
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: options.rotate ?? !google,
  pkce: { required: () => true },
  ttl: {
    AccessToken: () => options.lifetime ?? 3600, RefreshToken: 86400, Grant: 86400, IdToken: 3600, Interaction: 600,
    Session: 600, AuthorizationCode: 60,
  },
  clientDefaults: { token_endpoint_auth_method: "client_secret_post" },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    introspection: { enabled: true },
    registration: { enabled: !google && options.register !== false },
    resourceIndicators: {
      enabled: !google,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: noteScopes.join(" "), audience: resource, accessTokenFormat: "opaque",
        accessTokenTTL: options.lifetime ?? 3600,
      }),
    },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ["only a test"] },
});
provider.on("server_error", (ctx, error) => process.stderr.write(`${error.stack}\n`));

// As Google's answers are: scopes under other names, no new refresh token with a refresh.
provider.use(async (ctx, next) => {
  await next();
  if (google && ctx.path === "/token" && ctx.body && ctx.body.access_token) {
    if (ctx.body.scope) ctx.body.scope = ctx.body.scope.split(" ").map((one) => named[one] ?? one).join(" ");
    if (ctx.req.body?.grant_type === "refresh_token" && !options.rotate) delete ctx.body.refresh_token;
  }
});

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function answer(response, status, value, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

async function control(request, response, url) {
  if (request.method === "POST") {
    const { lifetime, ...faults } = JSON.parse(await body(request));
    if (lifetime) options.lifetime = lifetime;
    Object.assign(fault, faults);
  }
  if (url.pathname === "/_control/introspect") {
    const token = await provider.AccessToken.find(url.searchParams.get("token"));
    const grant = token && (await provider.Grant.find(token.grantId));
    return answer(response, 200, token && grant && !token.isExpired
      ? { active: true, scope: token.scope ?? "", aud: token.aud, sub: token.accountId } : { active: false });
  }
  answer(response, 200, { journal, issuer });
}

async function interact(request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "text/html" });
    return response.end(`<form method="post"><input name="login"><input name="scope" value="${details.params.scope ?? ""}"></form>`);
  }
  const form = new URLSearchParams(await body(request));
  journal.push({ consent: Object.fromEntries(form), asked: details.params });
  if (form.get("deny")) {
    return provider.interactionFinished(request, response, {
      error: "access_denied", error_description: "The user did not consent \u001b[31m.",
    });
  }
  const { client_id: clientId, scope = "", resource } = details.params;
  const asked = scope.split(" ");
  const ticked = form.has("scope") ? form.get("scope").split(" ") : asked;
  const grant = new provider.Grant({ accountId: form.get("login"), clientId });
  const always = ["openid", "offline_access"];
  grant.addOIDCScope([...always, ...asked.filter((one) => ticked.includes(one))].join(" "));
  const refused = asked.filter((one) => !ticked.includes(one) && !always.includes(one));
  if (refused.length) grant.rejectOIDCScope(refused.join(" "));
  if (resource) {
    grant.addResourceScope(resource, ticked.filter((one) => noteScopes.includes(one)).join(" "));
    if (refused.length) grant.rejectResourceScope(resource, refused.join(" "));
  }
  await provider.interactionFinished(request, response, {
    login: { accountId: form.get("login") }, consent: { grantId: await grant.save() },
  });
}

async function revoke(request, response) {
  const form = new URLSearchParams(await body(request));
  const token = form.get("token");
  const found = (await provider.RefreshToken.find(token)) ?? (await provider.AccessToken.find(token));
  journal.push({ path: "/revoke", known: Boolean(found), query: request.url.includes("?") });
  if (!found) return answer(response, 400, { error: "invalid_token" });
  await provider.RefreshToken.revokeByGrantId(found.grantId);
  await provider.AccessToken.revokeByGrantId(found.grantId);
  const grant = await provider.Grant.find(found.grantId);
  if (grant) await grant.destroy();
  answer(response, 200, {});
}

const handle = provider.callback();
server.on("request", async (request, response) => {
  const url = new URL(request.url, issuer);
  try {
    if (url.pathname.startsWith("/_control")) return await control(request, response, url);
    if (url.pathname.startsWith("/interaction/")) return await interact(request, response);
    const planned = fault[url.pathname];
    if (planned && planned.times !== 0) {
      planned.times = (planned.times ?? 1) - 1;
      journal.push({ arrived: url.pathname });
      if (planned.delay) await new Promise((done) => setTimeout(done, planned.delay));
      if (planned.status) {
        journal.push({ path: url.pathname, status: planned.status });
        return answer(response, planned.status, planned.body ?? { error: "temporarily_unavailable" });
      }
    }
    if (url.pathname === "/revoke") return await revoke(request, response);
    if (url.pathname === "/token") {
      // Basic and form are both taken, as Google does.
      const form = Object.fromEntries(new URLSearchParams(await body(request)));
      const basic = (request.headers.authorization ?? "").match(/^Basic (.*)$/)?.[1];
      if (basic && google) {
        const [id, secret] = Buffer.from(basic, "base64").toString().split(":").map(decodeURIComponent);
        Object.assign(form, { client_id: id, client_secret: secret });
        delete request.headers.authorization;
      }
      if (form.client_secret === "") delete form.client_secret;
      journal.push({ path: "/token", grant: form.grant_type, scope: form.scope, resource: form.resource });
      request.body = form;
    } else journal.push({ path: url.pathname, method: request.method });
    request.url = request.url.replace("prompt=select_account+", "prompt="); // which it does not know
    handle(request, response);
  } catch (error) {
    process.stderr.write(`${error.stack}\n`);
    answer(response, 500, { error: String(error) });
  }
});
process.stdout.write(`${port}\n`);
