/* Requests to /v1/admin. The browser sends the session's cookie; a session that has ended is announced once. */

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? (status ? `The server answered ${status}.` : "The server cannot be reached."));
    Object.assign(this, { status, code: error?.code });
  }
}

let onLoggedOut = () => {};

/** `call` is called where a request finds no session. */
export const whenLoggedOut = (call) => (onLoggedOut = call);

export async function request(method, path, { body, signal } = {}) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  let response;
  try {
    response = await fetch(`/v1/admin${path}`, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ApiError(0);
  }
  const value = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return value;
  if (response.status === 401 && path !== "/session") onLoggedOut();
  throw new ApiError(response.status, value?.error);
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, body = {}) => request("POST", path, { body });
export const remove = (path) => request("DELETE", path);

/** Who looks, and what the key allows. */
export const session = {
  caller: "",
  scopes: new Set(),
  set({ caller, scopes }) {
    this.caller = caller;
    this.scopes = new Set(scopes);
  },
  has(scope) {
    return this.scopes.has("admin") || this.scopes.has(scope);
  },
  get mayOperate() {
    return this.has("admin:operate");
  },
  get hasContent() {
    return this.has("admin:content");
  },
};
