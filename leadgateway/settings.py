"""All settings, read from the environment once. A wrong value stops the start with a message that names it."""

import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static
from kombu import Exchange, Queue

from leadgateway.env import Environment
from leadgateway.logging import logging_config
from leadgateway.timeouts import BoundedConnection

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment(BASE_DIR / ".env")

# --- Web processes ---------------------------------------------------------------------------------------------------

DEBUG = env.boolean("DEBUG", False)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
API_HOST = env.text("API_HOST", "0.0.0.0")  # noqa: S104 (the specification's default: all interfaces)
API_PORT = env.integer("API_PORT", 8080, low=1, high=65535)
WEB_PROCESSES = env.integer("WEB_PROCESSES", 2, low=1, high=64)
WEB_THREADS = env.integer("WEB_THREADS", 16, low=1, high=256)
WEB_READ_TIMEOUT = env.duration("WEB_READ_TIMEOUT", "10s", low=timedelta(milliseconds=100))

#: The specification promises senders a response in this time. When database or queue are unavailable, it is a 503.
WEB_ANSWER_TIMEOUT = env.duration("WEB_ANSWER_TIMEOUT", "500ms", low=timedelta(milliseconds=100))
DATABASE_TIMEOUT = WEB_ANSWER_TIMEOUT * 0.7
QUEUE_TIMEOUT = WEB_ANSWER_TIMEOUT * 0.4  # both are hardly ever slow for the same request

#: Local state: the embedded database, its queue, beat's schedule, the generated SECRET_KEY, metrics.
VAR_DIR = (BASE_DIR / env.text("VAR_DIR", "var")).resolve()


def _secret_key() -> str:
    """Return SECRET_KEY, or a generated key from VAR_DIR that only its owner can read."""
    if given := env.text("SECRET_KEY"):
        if len(given) < 32:
            env.problem("SECRET_KEY", "too short; expected 50 or more random characters")
        return given
    file = VAR_DIR / "secret_key"
    try:
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    except OSError as error:
        env.problem("SECRET_KEY", f"not set, and a generated key cannot be stored in {VAR_DIR} ({error.strerror})")
        return secrets.token_urlsafe(64)
    return file.read_text() or secrets.token_urlsafe(64)  # empty while another process writes it


SECRET_KEY = _secret_key()

# --- Database --------------------------------------------------------------------------------------------------------

DB_HOST = env.text("DB_HOST")
DB_PORT = env.integer("DB_PORT", 5432, low=1, high=65535)
DB_USER = env.text("DB_USER", "postgres")
DB_PASSWORD = env.text("DB_PASSWORD", "postgres")
DB_NAME = env.text("DB_NAME", "lead_gateway")
DB_SSLMODE = env.choice("DB_SSLMODE", "disable", ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"))
DB_MAX_OPEN_CONNS = env.integer("DB_MAX_OPEN_CONNS", 25, low=1, high=1000)
DB_MAX_IDLE_CONNS = env.integer("DB_MAX_IDLE_CONNS", 5, low=0, high=1000)
DATABASE_URL = env.text("DATABASE_URL")

_POSTGRESQL = "leadgateway.db"

if DB_MAX_IDLE_CONNS > DB_MAX_OPEN_CONNS:
    env.problem("DB_MAX_IDLE_CONNS", f"{DB_MAX_IDLE_CONNS} exceeds DB_MAX_OPEN_CONNS, which is {DB_MAX_OPEN_CONNS}")


def _postgres_options(sslmode: str) -> dict[str, Any]:
    return {
        "sslmode": sslmode,
        "connect_timeout": 3,
        "application_name": "lead_gateway",
        "tcp_user_timeout": 10_000,  # ms; without it, a lost connection is noticed after hours
        "pool": {
            "connection_class": BoundedConnection,
            "min_size": DB_MAX_IDLE_CONNS,
            "max_size": DB_MAX_OPEN_CONNS,
            "timeout": 5.0,
            # Give up reconnecting early: the pool would double its pauses up to minutes, whereas the next request
            # starts a new attempt.
            "reconnect_timeout": 2.0,
        },
    }


#: With WAL, readers and the writer do not block each other. IMMEDIATE takes the write lock at the start of a
#: transaction, where the timeout applies. FULL syncs each commit, so that accepted leads survive a power failure.
_SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}


def _sqlite(name: Path | str) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(name), "OPTIONS": _SQLITE_OPTIONS}


def _from_url(url: str) -> dict[str, Any]:
    """Read DATABASE_URL; its query string may carry sslmode."""
    try:
        parsed: dict[str, Any] = dict(environ.Env.db_url_config(url))
    except Exception:  # noqa: BLE001 (any error of the library means that the URL is wrong)
        parsed = {}
    engine = parsed.get("ENGINE", "")
    if engine.endswith("sqlite3") and parsed.get("NAME"):
        return _sqlite(parsed["NAME"])
    if engine.endswith("postgresql"):
        return parsed | {
            "ENGINE": _POSTGRESQL,
            "OPTIONS": _postgres_options(parsed.get("OPTIONS", {}).get("sslmode", DB_SSLMODE)),
        }
    env.problem("DATABASE_URL", "not valid; expected postgres://user:password@host:5432/name or sqlite:////path")
    return _sqlite(":memory:")


def _database() -> dict[str, Any]:
    if DATABASE_URL:
        return _from_url(DATABASE_URL)
    if DB_HOST:
        return {
            "ENGINE": _POSTGRESQL,
            "HOST": DB_HOST,
            "PORT": DB_PORT,
            "USER": DB_USER,
            "PASSWORD": DB_PASSWORD,
            "NAME": DB_NAME,
            "OPTIONS": _postgres_options(DB_SSLMODE),
        }
    is_path = "/" in DB_NAME or DB_NAME.endswith((".sqlite3", ".sqlite", ".db"))
    return _sqlite(BASE_DIR / DB_NAME if is_path else VAR_DIR / "lead_gateway.sqlite3")


DATABASES = {"default": {**_database(), "CONN_HEALTH_CHECKS": True}}

if DATABASES["default"]["ENGINE"].endswith("sqlite3") and not DATABASES["default"]["NAME"].startswith(":"):
    Path(DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)

# --- Queue -----------------------------------------------------------------------------------------------------------

QUEUE_URL = env.text("QUEUE_URL")


def _queue_type() -> str:
    """Return the queue that fits the other settings. A fresh checkout runs without a database server and Redis."""
    if QUEUE_URL:
        return "rabbitmq"
    return "redis" if DB_HOST or DATABASE_URL else "database"


QUEUE_TYPE = env.choice("QUEUE_TYPE", _queue_type(), ("redis", "rabbitmq", "database"))
REDIS_URL = env.text("REDIS_URL", "redis://localhost:6379/0")
REDIS_SENTINEL_MASTER = env.text("REDIS_SENTINEL_MASTER", "mymaster")
WORKER_POLL_INTERVAL = env.duration("WORKER_POLL_INTERVAL", "5s", low=timedelta(milliseconds=100))
REQUEUE_AFTER = env.duration("REQUEUE_AFTER", "30s", low=timedelta(seconds=1))
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY", 5, low=1, high=500)

if not REDIS_URL.startswith(("redis://", "rediss://", "unix://", "sentinel://")):
    env.problem("REDIS_URL", "not valid; expected redis://[:password@]host:6379/0")
if QUEUE_TYPE == "rabbitmq" and not QUEUE_URL.startswith(("amqp://", "amqps://")):
    env.problem("QUEUE_URL", "not valid; expected amqp://user:password@host:5672/vhost")
if QUEUE_TYPE != "rabbitmq" and QUEUE_URL:
    env.problem("QUEUE_URL", f"set, but QUEUE_TYPE is {QUEUE_TYPE}; it is the address of RabbitMQ")

# --- Customer API ----------------------------------------------------------------------------------------------------

CUSTOMER_API_URL = env.text("CUSTOMER_API_URL", "https://contactapi.static.fyi/lead/receive/fake/USER_ID/")
CUSTOMER_API_TOKEN = env.text("CUSTOMER_API_TOKEN", "FakeCustomerToken")
CUSTOMER_API_TIMEOUT = env.duration("CUSTOMER_API_TIMEOUT", "30s", low=timedelta(milliseconds=10))
CUSTOMER_PRODUCT_NAME = env.text("CUSTOMER_PRODUCT_NAME", "solar_panel_installation")
ATTRIBUTE_MAPPING_FILE = BASE_DIR / env.text("ATTRIBUTE_MAPPING_FILE", "./config/customer_attribute_mapping.json")
MAX_RETRY_ATTEMPTS = env.integer("MAX_RETRY_ATTEMPTS", 5, low=1, high=100)
RETRY_BACKOFF_BASE = env.duration("RETRY_BACKOFF_BASE", "30s", low=timedelta(milliseconds=1))
#: Time between two requests (None: no limit), and number of requests at the same time (0: no limit).
CUSTOMER_API_RATE_LIMIT = env.rate("CUSTOMER_API_RATE_LIMIT")
CUSTOMER_API_MAX_CONCURRENCY = env.integer("CUSTOMER_API_MAX_CONCURRENCY", 0, low=0, high=10_000)
CIRCUIT_FAILURES = env.integer("CIRCUIT_FAILURES", 10, low=0, high=10_000)
CIRCUIT_LEADS = env.integer("CIRCUIT_LEADS", 5, low=1, high=100)
CIRCUIT_BACKOFF_BASE = env.duration("CIRCUIT_BACKOFF_BASE", "30s", low=timedelta(milliseconds=10))
CIRCUIT_BACKOFF_MAX = env.duration("CIRCUIT_BACKOFF_MAX", "5m", low=timedelta(milliseconds=10))

if CIRCUIT_BACKOFF_MAX < CIRCUIT_BACKOFF_BASE:
    env.problem("CIRCUIT_BACKOFF_MAX", "shorter than CIRCUIT_BACKOFF_BASE")

# --- Webhook: authentication and limits ------------------------------------------------------------------------------

ENABLE_AUTH = env.boolean("ENABLE_AUTH", False)
SHARED_SECRETS = env.words("SHARED_SECRET")
#: The source name of each secret, in the same order. While a secret is rotated, two secrets have the same name.
SHARED_SECRET_NAMES = env.words("SHARED_SECRET_NAMES") or [f"source-{n + 1}" for n in range(len(SHARED_SECRETS))]
STATS_TOKEN = env.text("STATS_TOKEN")
DEDUP_WINDOW = env.duration("DEDUP_WINDOW", "24h")
MAX_PAYLOAD_BYTES = env.integer("MAX_PAYLOAD_BYTES", 262_144, low=1, high=64 * 1024 * 1024)
#: Number of requests in a time window, of all senders and of each source; None: no limit.
WEBHOOK_RATE_LIMIT = env.limit("WEBHOOK_RATE_LIMIT")
WEBHOOK_RATE_LIMIT_PER_SOURCE = env.limit("WEBHOOK_RATE_LIMIT_PER_SOURCE")

if ENABLE_AUTH and not SHARED_SECRETS:
    env.problem("SHARED_SECRET", "empty, but ENABLE_AUTH is true: every sender would be rejected")
if ENABLE_AUTH and DEBUG:
    env.problem("DEBUG", "true, but ENABLE_AUTH is true: error pages would show payloads and settings to everyone")
if len(SHARED_SECRET_NAMES) != len(SHARED_SECRETS):
    env.problem(
        "SHARED_SECRET_NAMES",
        f"{len(SHARED_SECRET_NAMES)} names for {len(SHARED_SECRETS)} secrets; expected one name for each secret",
    )
if any(len(name) > 100 for name in SHARED_SECRET_NAMES):
    env.problem("SHARED_SECRET_NAMES", "a name is longer than 100 characters")
if STATS_TOKEN and STATS_TOKEN in SHARED_SECRETS:
    env.problem("STATS_TOKEN", "also in SHARED_SECRET: every sender could read the statistics")

# --- Admin -----------------------------------------------------------------------------------------------------------

ADMIN_TIME_ZONE = env.text("ADMIN_TIME_ZONE", "Europe/Berlin")
ADMIN_SESSION_AGE = env.duration("ADMIN_SESSION_AGE", "8h", low=timedelta(minutes=1))
BULK_ACTION_RATE = env.integer("BULK_ACTION_RATE", 10, low=1, high=10_000)

if ADMIN_TIME_ZONE not in available_timezones():
    env.problem("ADMIN_TIME_ZONE", f"{ADMIN_TIME_ZONE!r} is not a time zone; expected one such as Europe/Berlin or UTC")

# --- Retention -------------------------------------------------------------------------------------------------------

#: Time after which leads are deleted, by their final status. Leads with another status are kept.
RETENTION_DAYS = env.days("RETENTION_DAYS", ("delivered", "rejected", "failed", "permanently_failed"))

# --- Monitoring and alerts -------------------------------------------------------------------------------------------

MONITORING_INTERVAL = env.duration("MONITORING_INTERVAL", "1m", low=timedelta(milliseconds=100))
ALERT_EMAIL = env.words("ALERT_EMAIL")
ALERT_EMAIL_FROM = env.text("ALERT_EMAIL_FROM", "lead-gateway@localhost")
ALERT_WEBHOOK_URL = env.text("ALERT_WEBHOOK_URL")
EMAIL_URL = env.text("EMAIL_URL")


def _mail_server() -> dict[str, Any]:
    """Return Django's e-mail settings from EMAIL_URL. What it does not contain keeps Django's default."""
    try:
        parsed: dict[str, Any] = dict(environ.Env.email_url_config(EMAIL_URL)) if EMAIL_URL else {}
    except Exception:  # noqa: BLE001 (any error of the library means that the URL is wrong)
        parsed = {}
    if EMAIL_URL and not (parsed.get("EMAIL_HOST") and EMAIL_URL.startswith("smtp")):
        env.problem("EMAIL_URL", "not valid; expected smtp://user:password@host:587, smtp+tls:// or smtp+ssl://")
    return {name: value for name, value in parsed.items() if value is not None}


vars().update(_mail_server())
EMAIL_TIMEOUT = 10

if ALERT_EMAIL and not EMAIL_URL:
    env.problem("ALERT_EMAIL", "set, but EMAIL_URL is not: no alert could be sent")
if any("@" not in address for address in [*ALERT_EMAIL, ALERT_EMAIL_FROM]):
    env.problem("ALERT_EMAIL", "or ALERT_EMAIL_FROM is not an e-mail address; separate several addresses with commas")
if ALERT_WEBHOOK_URL and not ALERT_WEBHOOK_URL.startswith(("http://", "https://")):
    env.problem("ALERT_WEBHOOK_URL", "not valid; expected https://...")

# --- Logs ------------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.choice("LOG_LEVEL", "info", ("debug", "info", "warn", "error"))
LOG_FORMAT = env.choice("LOG_FORMAT", "json", ("json", "text"))
LOGGING = logging_config(LOG_LEVEL, LOG_FORMAT)

# --- Traces ----------------------------------------------------------------------------------------------------------

#: OpenTelemetry's standard names. The library reads its other OTEL_ variables itself.
OTEL_EXPORTER_OTLP_ENDPOINT = env.text("OTEL_EXPORTER_OTLP_ENDPOINT")
OTEL_SERVICE_NAME = env.text("OTEL_SERVICE_NAME", "lead-gateway")

if OTEL_EXPORTER_OTLP_ENDPOINT and not OTEL_EXPORTER_OTLP_ENDPOINT.startswith(("http://", "https://")):
    env.problem("OTEL_EXPORTER_OTLP_ENDPOINT", "not valid; expected http://collector:4318 or https://...")

env.check()

# --- Django --------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "leads",
    "delivery",
    "stats",
]

MIDDLEWARE = [
    "leadgateway.middleware.RequestContext",
    "leadgateway.middleware.AdminLocale",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "leadgateway.middleware.ResponseHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "leadgateway.urls"
ASGI_APPLICATION = "leadgateway.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
FORMAT_MODULE_PATH = ["leadgateway.formats"]
# The project's translations, and those of texts that Unfold and Django leave in English.
LOCALE_PATHS = [BASE_DIR / "config" / "locale", BASE_DIR / "config" / "locale_of_unfold"]
TIME_ZONE = "UTC"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # serve files from the packages, without collectstatic

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# django-axes counts failed logins for each pair of user name and address.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_CALLABLE = "stats.admin.logins.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
SESSION_COOKIE_AGE = int(ADMIN_SESSION_AGE.total_seconds())

UNFOLD = {
    "SITE_TITLE": "Lead Gateway",
    "SITE_HEADER": "Lead Gateway",
    "SITE_URL": None,  # there is no page at /
    "SITE_SYMBOL": "conversion_path",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "DASHBOARD_CALLBACK": "stats.admin.dashboard.context",
    "STYLES": [lambda _request: static("stats/gateway.css")],
    "SCRIPTS": [lambda _request: static("stats/gateway.js")],
    "SIDEBAR": {"navigation": "stats.admin.sidebar.navigation"},
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        },
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "leadgateway.errors.AlwaysJSON",
    "EXCEPTION_HANDLER": "leadgateway.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}

# What a browser may load in the admin. ResponseHeaders sets a stricter policy for all other responses.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        # Alpine, which Unfold uses, compiles the expressions in its attributes. Scripts are loaded from our files only.
        "script-src": [SELF, UNSAFE_EVAL],
        # Unfold writes its colours into each page. Alpine and our charts set style attributes.
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# Cookies need TLS, except on the loopback address (see ResponseHeaders).
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_HSTS_SECONDS = 365 * 24 * 3600  # Django sends the header on TLS requests only
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SILENCED_SYSTEM_CHECKS = [
    "security.W008",  # no redirect to TLS: a redirect would turn a sender's POST into a GET; the proxy decides
    "security.W021",  # HSTS preload is the domain owner's decision
]

# --- Celery ----------------------------------------------------------------------------------------------------------

PROCESS_QUEUE = "queue:process_lead"
RETRY_QUEUE = "queue:process_lead_retry"
MAINTENANCE_QUEUE = "queue:maintenance"
_QUEUES = (PROCESS_QUEUE, RETRY_QUEUE, MAINTENANCE_QUEUE)

_MESSAGE_FOLDER = VAR_DIR / "queue"

CELERY_BROKER_URL = {"redis": REDIS_URL, "rabbitmq": QUEUE_URL, "database": "files://localhost//"}[QUEUE_TYPE]
_TRANSPORT_OPTIONS: dict[str, dict[str, Any]] = {
    "redis": {
        "visibility_timeout": 900,  # s; longer than the longest countdown, 5 minutes
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": False,
        "master_name": REDIS_SENTINEL_MASTER,  # for sentinel:// only
    },
    "rabbitmq": {"confirm_publish": True},
    "database": {
        "data_folder_in": str(_MESSAGE_FOLDER),
        "data_folder_out": str(_MESSAGE_FOLDER),
        "bindings": list(_QUEUES),
        "polling_interval": 0.05,
    },
}
CELERY_BROKER_TRANSPORT_OPTIONS = _TRANSPORT_OPTIONS[QUEUE_TYPE]
CELERY_BROKER_HEARTBEAT = 10  # s; RabbitMQ only. A worker reconnects after three of them, also to a frozen server
if QUEUE_TYPE == "database":
    _MESSAGE_FOLDER.mkdir(parents=True, exist_ok=True)

_EXCHANGE = Exchange("leads", type="direct")

# Workers take messages from the queues in turn, so that many retries delay neither new leads nor the sweep.
CELERY_TASK_QUEUES = [Queue(name, _EXCHANGE, routing_key=name) for name in _QUEUES]
CELERY_TASK_DEFAULT_QUEUE = MAINTENANCE_QUEUE
CELERY_TASK_DEFAULT_EXCHANGE = _EXCHANGE.name
CELERY_TASK_DEFAULT_ROUTING_KEY = MAINTENANCE_QUEUE
CELERY_TASK_ROUTES = {"process_lead": {"queue": PROCESS_QUEUE}}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # when a worker dies, its lease expires; a late ack would process the lead twice
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = WORKER_CONCURRENCY
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = QUEUE_TYPE != "database"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker without limit
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
#: Each task: its interval, and when a message expires. Without a worker, messages would pile up; the next one makes an
#: old one superfluous.
_PERIODIC_TASKS = {
    "sweep": (WORKER_POLL_INTERVAL, max(WORKER_POLL_INTERVAL, timedelta(seconds=5))),
    "process_bulk_actions": (WORKER_POLL_INTERVAL, max(WORKER_POLL_INTERVAL, timedelta(seconds=5))),
    "update_counters": (timedelta(minutes=1), timedelta(minutes=1)),
    # While no worker is running, stats/monitoring/monitor_thread.py checks the pipeline.
    "check_pipeline": (MONITORING_INTERVAL, max(MONITORING_INTERVAL, timedelta(seconds=1))),
    # More often than once an hour, so that missed hours are soon aggregated.
    "aggregate_hours": (timedelta(minutes=10), timedelta(minutes=10)),
    "apply_retention": (timedelta(hours=1), timedelta(hours=1)),
    "clear_sessions": (timedelta(days=1), timedelta(hours=1)),
}
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": interval, "options": {"expires": expires.total_seconds()}}
    for name, (interval, expires) in _PERIODIC_TASKS.items()
}
