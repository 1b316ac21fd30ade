/** What nginx in front of the gateways is told: of a local cluster, and in `nginx.conf` that of the compose file. */

export type NginxOptions = {
  /** `host:port` of nginx itself. */
  readonly listen: string;
  /** `host:port` of every gateway. */
  readonly gateways: readonly string[];
  /** Where the few files are that nginx insists on; relative to its prefix. */
  readonly temporaryDir: string;
  readonly pidFile: string;
  readonly workers: number | "auto";
  /** A name server to ask again and again, where gateways have names whose addresses change (nginx ≥ 1.27.3). */
  readonly resolver: string | null;
};

/** Shown to a client that no gateway answered. A write may have happened when its gateway died before it answered. */
const UNREACHABLE = problemOf(503, "gateway_unavailable", "No gateway answered", [
  "No gateway answered. A write that was under way may have happened or not: read before you repeat it.",
]);
const MALFORMED = problemOf(400, "request_malformed", "Request malformed", ["nginx could not read the request"]);

/** A whole nginx.conf. */
export function nginxConfig(options: NginxOptions): string {
  const { listen, gateways, temporaryDir, pidFile, workers, resolver } = options;
  const resolve = resolver === null ? "" : " resolve";
  const servers = [
    ...gateways.map((gateway) => `    server ${gateway} max_fails=2 fail_timeout=3s${resolve};`),
    "    # When all of them have failed lately, they are tried none the less.",
    ...gateways.map((gateway) => `    server ${gateway} max_fails=0 backup${resolve};`),
  ];
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `# nginx in front of Kintsugi's gateways.
daemon off;
pid ${pidFile};
error_log stderr warn;
worker_processes ${workers};
events {
  worker_connections 4096;
}

http {
  access_log off;
  server_tokens off;
${temporary.map((kind) => `  ${kind}_temp_path ${temporaryDir};`).join("\n")}
${resolver === null ? "" : `  resolver ${resolver} valid=5s;\n`}
  upstream kintsugi {
    # Shared by the workers, so that all of them know which gateway is out of order.
    zone kintsugi 256k;
    least_conn;
${servers.join("\n")}
    keepalive 256;
    keepalive_requests 1000000;
    # Below the minute after which a gateway closes an idle connection, which would lose the request just sent on it.
    keepalive_timeout 30s;
  }

  # A key such as a//b/%2e%2e is stored as it was sent; nothing here may tidy it up.
  merge_slashes off;
  # Metadata may be named with dots and underscores, which nginx would leave out without a word.
  ignore_invalid_headers off;
  underscores_in_headers on;
  large_client_header_buffers 8 32k;

  # Bodies stream through: a gateway holds back a client that is too fast, and nothing is kept on this machine's disk.
  client_max_body_size 0;
  client_body_buffer_size 128k;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_buffer_size 128k;
  proxy_busy_buffers_size 128k;
  proxy_buffers 8 128k;

  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_connect_timeout 1s;
  proxy_send_timeout 120s;
  proxy_read_timeout 120s;
  keepalive_requests 1000000;
  recursive_error_pages on;

  server {
    listen ${listen} backlog=4096;
    error_page 400 414 431 494 = /malformed-request;
    error_page 418 = @repeatable_by_client_alone;
    error_page 502 504 = @unreachable;

    location / {
      # Passed to another gateway: reads always, POST and PATCH only while nothing of them has been sent.
      proxy_next_upstream error timeout;
      proxy_next_upstream_tries ${Math.max(2, gateways.length)};
      # nginx would send these a second time after a gateway died that had carried them out: a delete would then
      # answer 404, and a conditional put 412, for what they did themselves.
      if ($request_method ~ ^(PUT|DELETE)$) {
        return 418;
      }
      # Without a path here the target goes through byte for byte.
      proxy_pass http://kintsugi;
    }

    location @repeatable_by_client_alone {
      proxy_next_upstream off;
      proxy_pass http://kintsugi;
    }

    location @unreachable {
      default_type application/problem+json;
      add_header Retry-After 1 always;
      add_header X-Request-Id $request_id always;
      return 503 '${UNREACHABLE}';
    }

    # No name with an @, as nginx cannot go there when it could make nothing of the target.
    location = /malformed-request {
      internal;
      default_type application/problem+json;
      add_header X-Request-Id $request_id always;
      return 400 '${MALFORMED}';
    }
  }
}
`;
}

function problemOf(status: number, code: string, title: string, detail: readonly string[]): string {
  const type = `urn:kintsugi:problem:${code}`;
  return JSON.stringify({ type, title, status, code, detail: detail.join(" "), requestId: "$request_id" });
}
