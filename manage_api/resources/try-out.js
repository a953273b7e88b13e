// Shows the contract with Swagger UI, and tries out its operations at both ports.

// The contract has an operation's server as / (this one), or as the proxy's port: here each gets its address.
const proxy = `${location.protocol}//${location.hostname}:${document.body.dataset.proxyPort}`
const here = {url: location.origin, description: "This server: the management API's port"}
const there = {
  url: "{address}",
  description: "The proxy's port",
  variables: {address: {default: proxy, description: "Another address, where the proxy is not at this one"}},
}
const named = (servers) => servers.map(({url}) => url === "/" ? here : there)
const withAddresses = (contract) => {
  for (const part of [contract, ...Object.values(contract.paths ?? {})])
    if (part.servers) part.servers = named(part.servers)
  return contract
}
const addresses = {
  statePlugins: {spec: {wrapActions: {updateJsonSpec: (next) => (contract) => next(withAddresses(contract))}}},
}
// The path of an operation of the upstream's has slashes, which Swagger UI encodes.
const withSlashes = (request) => {
  request.url = request.url.replace(/\/v1\/[^?]*/, (path) => path.replaceAll("%2F", "/"))
  return request
}
// Without a validatorUrl of null, Swagger UI asks a server on the internet about the contract.
window.ui = SwaggerUIBundle({
  url: "/openapi.yaml", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  plugins: [addresses], requestInterceptor: withSlashes,
})
