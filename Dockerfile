# One image for all processes of the gateway; the command selects the process. See DOCKER.md.

FROM python:3.11-slim-bookworm AS builder

RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY requirements.txt .
# Wheels only: the build fails early when a package would need a compiler.
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: -r requirements.txt


FROM python:3.11-slim-bookworm

# ping is for troubleshooting: `docker-compose exec api ping postgres`. Debian's file has a capability that the
# container lacks, so it may fail to start. A copy has no capability and uses the ICMP sockets that Docker allows.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iputils-ping \
    && rm -rf /var/lib/apt/lists/* \
    && cp /bin/ping /usr/local/bin/ping

# A fixed user id, so that mounted directories can be given to this user.
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --home-dir /app --no-create-home --shell /usr/sbin/nologin gateway

ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VAR_DIR=/var/lib/lead-gateway
WORKDIR /app

COPY --from=builder /venv /venv
COPY config config
COPY leadgateway leadgateway
COPY leads leads
COPY delivery delivery
COPY stats stats
COPY manage.py Procfile requirements.txt ./

# Make the files readable for any umask of the checkout. The service may write to VAR_DIR only.
RUN chmod -R a+rX /app \
    && install --directory --owner=gateway --group=gateway --mode=700 "$VAR_DIR"

USER gateway
EXPOSE 8080
STOPSIGNAL SIGTERM

# Any status below 500 is healthy: /health responds 400 when ALLOWED_HOSTS does not contain 127.0.0.1.
# http.client ignores the proxy variables that Docker may set; urllib would use them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; api = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('API_PORT') or 8080), timeout=4); api.request('GET', '/health'); sys.exit(api.getresponse().status >= 500)"]

CMD ["gunicorn", "-c", "python:leadgateway.server.config", "leadgateway.asgi"]
