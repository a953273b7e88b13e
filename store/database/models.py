"""The tables, as peewee models. Their history is in `migrations/`, which creates and changes them.

Ids are UUIDs as text; times are microseconds (see `clock`). The models are bound to a database when the store is
opened.
"""

from typing import Any

from peewee import (
    BigIntegerField,
    BlobField,
    BooleanField,
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

from store.database.sql import storable

UUID_LENGTH = 36
UPSTREAM_ID_LENGTH = 128
OBJECT_ID_LENGTH = 128
BALANCE_ID_LENGTH = 64
HMAC_LENGTH = 64


class IdField(CharField):
    """An id. A text that no database can store is an unknown id like any other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=UUID_LENGTH, **options)

    def db_value(self, value: str | None) -> str | None:
        """Return the value as a statement can hold it."""
        return value and storable(value)


class Project(Model):
    """A team's project: it owns one upstream key."""

    id = IdField(primary_key=True)
    name = TextField()
    sealed_api_key = BlobField()
    is_active = BooleanField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    api_key_updated_at = BigIntegerField(null=True)  # unknown for a key that is older than this column
    rate_limits = TextField(null=True)
    max_parallel_requests = BigIntegerField(null=True)
    budgets = TextField(null=True)
    allowed_models = TextField(null=True)
    allowed_endpoints = TextField(null=True)
    allowed_ips = TextField(null=True)


class Token(Model):
    """A proxy token. `lookup` is the HMAC of its value, `sealed_value` its ciphertext.

    `previous_lookup` is that of the value before, which works until `previous_expires_at`.
    """

    id = IdField(primary_key=True)
    project = ForeignKeyField(Project, on_delete="CASCADE")
    project_id: str  # the foreign key itself, read without a query
    # Not `name`: processes of the version before join a project to its tokens, and select `name` without its table.
    name = TextField(null=True, column_name="token_name")
    lookup = CharField(max_length=HMAC_LENGTH, unique=True)
    sealed_value = BlobField()
    previous_lookup = CharField(max_length=HMAC_LENGTH, null=True, unique=True)
    previous_expires_at = BigIntegerField(null=True)
    is_active = BooleanField()
    request_count = BigIntegerField()
    opening_count = BigIntegerField(default=0)  # those of the requests that are older than the ledger
    max_requests = BigIntegerField()
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    last_used_at = BigIntegerField(null=True)
    rate_limits = TextField(null=True)
    max_parallel_requests = BigIntegerField(null=True)
    budgets = TextField(null=True)
    allowed_models = TextField(null=True)
    allowed_endpoints = TextField(null=True)
    allowed_ips = TextField(null=True)


class Balance(Model):
    """One limit of a token or a project, with what has been used of it; `store.limits.balance` reads it.

    `maximum` is the limit. `used` is the number of slots that are taken, or what is settled of a budget in the period
    that began at `newest`; `counts` are those of a window's parts, up to the one with the number `newest`. `reserved`
    is what a window of tokens or a budget holds for running requests: for those that were admitted from `begun_at` on,
    when the limit was set. Money is in `usage.COST_UNIT`s.
    """

    id = CharField(max_length=BALANCE_ID_LENGTH, primary_key=True)
    owner_id = IdField(index=True)
    maximum = BigIntegerField()
    used = BigIntegerField()
    reserved = BigIntegerField(default=0)
    begun_at = BigIntegerField(default=0)
    newest = BigIntegerField()
    counts = TextField()


class Slot(Model):
    """A slot that a request holds of a limit of requests at once, until it is settled."""

    request_id = IdField()
    balance_id = CharField(max_length=BALANCE_ID_LENGTH)

    class Meta:
        """The key."""

        primary_key = CompositeKey("request_id", "balance_id")


CHECK = "check"
"""The name of the secret that every store has, to check whether a key opens it."""


class Secret(Model):
    """A secret of the store itself, encrypted by the key ring."""

    name = CharField(max_length=UUID_LENGTH, primary_key=True)
    sealed = BlobField()


class Request(Model):
    """A row of the ledger: one admitted request. Until it is settled all columns from `settled_at` on are NULL.

    It refers to its token and project by id alone, as it outlives them. Costs are in `usage.COST_UNIT`s: `told_cost` is
    the one that the upstream told; `cost` is a lower bound where `cost_is_minimum`. `reserved_tokens` and
    `reserved_usd` are what limits of tokens and money held for it while it ran; NULL where it had none. `budget_beyond`
    is what the request counted against budgets beyond its cost, `tokens_beyond` what it counted in windows beyond its
    tokens. `is_limited` marks rows that were open when a limit was set for them. `code` says why the gateway ended a
    request itself.
    """

    id = IdField(primary_key=True)
    instance_id = IdField()
    started_at = BigIntegerField()
    project_id = IdField()
    token_id = IdField()
    method = TextField()
    path = TextField()
    endpoint = TextField()
    session_id = IdField(null=True)
    client = TextField(null=True)
    settled_at = BigIntegerField(null=True)
    usage_source = TextField(null=True)
    upstream_request_id = TextField(null=True)
    model_asked = TextField(null=True)
    model = TextField(null=True)
    status = IntegerField(null=True)
    streamed = BooleanField(null=True)
    duration_ms = BigIntegerField(null=True)
    first_byte_ms = BigIntegerField(null=True)
    request_bytes = BigIntegerField(null=True)
    response_bytes = BigIntegerField(null=True)
    input_tokens = BigIntegerField(null=True)
    cached_input_tokens = BigIntegerField(null=True)
    output_tokens = BigIntegerField(null=True)
    reasoning_tokens = BigIntegerField(null=True)
    input_audio_tokens = BigIntegerField(null=True)
    output_audio_tokens = BigIntegerField(null=True)
    web_searches = BigIntegerField(null=True)
    file_searches = BigIntegerField(null=True)
    code_containers = BigIntegerField(null=True)
    tool_calls = BigIntegerField(null=True)
    images = BigIntegerField(null=True)
    audio_seconds = BigIntegerField(null=True)
    video_seconds = BigIntegerField(null=True)
    cost = BigIntegerField(null=True)
    price = TextField(null=True)
    told_cost = BigIntegerField(null=True)
    cost_is_minimum = BooleanField(null=True)
    budget_beyond = BigIntegerField(null=True)
    tokens_beyond = BigIntegerField(null=True)
    is_limited = BooleanField(null=True)
    reserved_tokens = BigIntegerField(null=True)
    reserved_usd = BigIntegerField(null=True)
    code = TextField(null=True)


class Refusal(Model):
    """Refused requests of a token: those with one code, in one minute, by one process; `repeats` is their number.

    All other columns are of the first of them.
    """

    id = IdField(primary_key=True)
    started_at = BigIntegerField()
    project_id = IdField()
    token_id = IdField()
    method = TextField()
    path = TextField()
    endpoint = TextField()
    session_id = IdField(null=True)
    client = TextField(null=True)
    status = IntegerField()
    code = TextField()
    repeats = BigIntegerField()


class UpstreamId(Model):
    """The id that the upstream gave to a request of the ledger; several requests may have the same."""

    upstream_request_id = CharField(max_length=UPSTREAM_ID_LENGTH)
    request_id = IdField()

    class Meta:
        """The table's name, and its key: it is an index of its own, as none can be added to `request` in use."""

        table_name = "upstream_id"
        primary_key = CompositeKey("upstream_request_id", "request_id")


class PendingUsage(Model):
    """An object of the upstream whose usage a later request of its project may tell; the request that made it.

    `object_id` is the id of the project, a slash, and the upstream's id of the object.
    `summed_as` is the model under which that request was summed up.
    """

    object_id = CharField(max_length=OBJECT_ID_LENGTH, primary_key=True)
    request_id = IdField(index=True)
    summed_as = TextField()

    class Meta:
        """The table's name."""

        table_name = "pending_usage"


class Sums(Model):
    """The sums of the settled requests of an hour or a day (from `start` on). An unknown model is the empty text.

    A request of unknown usage counts in `requests` alone; one with a usage, but without a cost, in `unpriced`, and one
    whose cost is a lower bound in `minimum`. `cost_where_told` is our cost of those requests whose cost the upstream
    told too, which add up to `told_cost`.
    """

    start = BigIntegerField()
    project_id = IdField()
    token_id = IdField()
    model = TextField()
    endpoint = TextField()
    requests = BigIntegerField()
    observed = BigIntegerField()
    estimated = BigIntegerField()
    unpriced = BigIntegerField()
    minimum = BigIntegerField(default=0)
    request_bytes = BigIntegerField()
    response_bytes = BigIntegerField()
    input_tokens = BigIntegerField()
    cached_input_tokens = BigIntegerField()
    output_tokens = BigIntegerField()
    reasoning_tokens = BigIntegerField()
    input_audio_tokens = BigIntegerField()
    output_audio_tokens = BigIntegerField()
    web_searches = BigIntegerField(default=0)
    file_searches = BigIntegerField(default=0)
    code_containers = BigIntegerField(default=0)
    tool_calls = BigIntegerField(default=0)
    images = BigIntegerField(default=0)
    audio_seconds = BigIntegerField(default=0)
    video_seconds = BigIntegerField(default=0)
    cost = BigIntegerField()
    told_cost = BigIntegerField(default=0)
    cost_where_told = BigIntegerField(default=0)
    budget_beyond = BigIntegerField(default=0)

    class Meta:
        """The key of both tables."""

        primary_key = CompositeKey("start", "project_id", "token_id", "model", "endpoint")


class HourlyUsage(Sums):
    """Sums of an hour; kept for `retention.HOUR_DAYS`, and as long as the rows of the ledger."""

    class Meta:
        """The table's name."""

        table_name = "hourly_usage"


class DailyUsage(Sums):
    """Sums of a day (UTC); kept for ever."""

    class Meta:
        """The table's name."""

        table_name = "daily_usage"


class Instance(Model):
    """A process that admits requests. `beats` rises while it is alive."""

    id = IdField(primary_key=True)
    beats = BigIntegerField()


class ProcessFigures(Model):
    """The figures of a process that admits requests, or of all that have ended, in JSON (`metrics.process_figures`)."""

    instance_id = IdField(primary_key=True)
    figures = TextField()

    class Meta:
        """The table's name."""

        table_name = "process_figures"


class TotalMark(Model):
    """The last key, of a time and a place, whose sums or refusals are in a table of totals: see `ledger.totals`."""

    name = IdField(primary_key=True)
    time = BigIntegerField()
    place = IdField()

    class Meta:
        """The table's name."""

        table_name = "total_mark"


class UsageTotal(Model):
    """The sums of the days until a TotalMark, by project and model; some of them together under `{other}`.

    The cost is in millionths of a dollar, and the rest of that in COST_UNITs.
    """

    project_id = IdField()
    model = TextField()
    requests = BigIntegerField()
    input_tokens = BigIntegerField()
    output_tokens = BigIntegerField()
    cost_micros = BigIntegerField()
    cost_rest = BigIntegerField()

    class Meta:
        """The table's name and its key."""

        table_name = "usage_total"
        primary_key = CompositeKey("project_id", "model")


class RefusalTotal(Model):
    """The number of refusals until a TotalMark, by project and code."""

    project_id = IdField()
    code = CharField(max_length=64)
    repeats = BigIntegerField()

    class Meta:
        """The table's name and its key."""

        table_name = "refusal_total"
        primary_key = CompositeKey("project_id", "code")


class Price(Model):
    """A price of the operator's own, in JSON (see `prices`). Empty texts stand for any project and any model."""

    id = IdField(primary_key=True)
    project_id = IdField()
    model = TextField()
    rates = TextField()
    updated_at = BigIntegerField()


class FormerProject(Model):
    """The name of a deleted project, for reports."""

    id = IdField(primary_key=True)
    name = TextField()

    class Meta:
        """The table's name."""

        table_name = "former_project"


class FormerToken(Model):
    """The name of a token that was deleted with its project, for reports."""

    id = IdField(primary_key=True)
    name = TextField()

    class Meta:
        """The table's name."""

        table_name = "former_token"


class Admin(Model):
    """An administrator. `lookup` is the HMAC of the token.

    `root` has no token here, as its own is the setting MANAGEMENT_TOKEN; it has a row once it has been disabled.
    """

    id = IdField(primary_key=True)
    name = TextField(unique=True)
    role = TextField()
    lookup = CharField(max_length=HMAC_LENGTH, null=True, unique=True)
    is_active = BooleanField()
    created_at = BigIntegerField()


class AdminSession(Model):
    """An administrator's session in a browser. `lookup` is the HMAC of the id that the browser sends.

    `credential` is the HMAC of the token that opened it: without that token, the session ends. `last_form` is the mark
    of the form that was sent last, of those that must not be sent twice.
    """

    lookup = CharField(max_length=HMAC_LENGTH, primary_key=True)
    admin_id = IdField(index=True)
    credential = CharField(max_length=HMAC_LENGTH)
    created_at = BigIntegerField()
    used_at = BigIntegerField()
    address = TextField(null=True)
    last_form = CharField(max_length=64)

    class Meta:
        """The table's name."""

        table_name = "admin_session"


class Audit(Model):
    """A change of what operators manage; rows are only added.

    `changes` is a JSON object with each field before and after, `ids` a JSON array of what one part of a change is
    about. Names are those of the time of the change.
    """

    id = IdField(primary_key=True)
    changed_at = BigIntegerField()
    actor = TextField()
    action = TextField()
    object_id = IdField(null=True)
    object_name = TextField(null=True)
    project_id = IdField(null=True)
    changes = TextField()
    ids = TextField(null=True)
    address = TextField(null=True)
    request_id = IdField(null=True)


MODELS: tuple[type[Model], ...] = (
    Project,
    Token,
    Balance,
    Slot,
    Secret,
    Request,
    HourlyUsage,
    DailyUsage,
    Instance,
    Price,
    FormerProject,
    Refusal,
    UpstreamId,
    PendingUsage,
    FormerToken,
    ProcessFigures,
    TotalMark,
    UsageTotal,
    RefusalTotal,
    Admin,
    AdminSession,
    Audit,
)
