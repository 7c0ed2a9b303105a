# One image for every process of the gateway; what it does is its command. See DOCKER.md.

FROM python:3.11-slim-bookworm AS builder

RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY requirements.txt .
# Wheels only: a package that would have to be compiled stops the build instead of asking for a compiler.
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: -r requirements.txt


FROM python:3.11-slim-bookworm

# ping is for trouble-shooting: `docker-compose exec api ping postgres`. Debian's asks for a capability that the
# container does not have, and then may not even start; its copy makes do with what Docker lets every user send.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iputils-ping \
    && rm -rf /var/lib/apt/lists/* \
    && cp /bin/ping /usr/local/bin/ping

# A fixed number, so that the owner of a mounted directory can be set to it.
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

# Readable whatever the umask of the checkout was; the service itself may write to VAR_DIR only.
RUN chmod -R a+rX /app \
    && install --directory --owner=gateway --group=gateway --mode=700 "$VAR_DIR"

USER gateway
EXPOSE 8080
STOPSIGNAL SIGTERM

# Any answer below 500 is a living server: where ALLOWED_HOSTS does not name 127.0.0.1, /health is refused with 400.
# http.client, unlike urllib, asks no proxy that Docker has put into the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; api = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('API_PORT') or 8080), timeout=4); api.request('GET', '/health'); sys.exit(api.getresponse().status >= 500)"]

CMD ["gunicorn", "-c", "python:leadgateway.server.config", "leadgateway.wsgi"]
