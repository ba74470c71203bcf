"""The names of what mustn't be called in workflow code, by rule. A name stands for all below it, too."""

from __future__ import annotations

_CLOCK = """
    time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.process_time
    time.process_time_ns time.thread_time time.clock_gettime datetime.datetime.now datetime.datetime.utcnow
    datetime.datetime.today datetime.date.today
"""
_RANDOM = """
    random.random random.randint random.randrange random.choice random.choices random.sample random.shuffle
    random.uniform random.gauss random.getrandbits random.randbytes random.betavariate random.expovariate
    random.normalvariate random.triangular random.SystemRandom secrets os.urandom numpy.random
"""
_IO = """
    open io.open input builtins.open builtins.input requests urllib.request http.client aiohttp urllib3 ftplib smtplib
    httpx.get httpx.post httpx.put httpx.patch httpx.delete httpx.head httpx.options httpx.request httpx.stream
    httpx.Client httpx.AsyncClient
    socket.socket socket.create_connection socket.getaddrinfo socket.gethostbyname socket.gethostname
    asyncio.open_connection asyncio.start_server asyncio.open_unix_connection
    os.listdir os.scandir os.walk os.mkdir os.makedirs os.remove os.unlink os.rename os.replace os.rmdir os.stat os.open
    os.path.exists os.path.isfile os.path.isdir os.path.getsize os.path.getmtime os.getcwd
    shutil tempfile.mkdtemp tempfile.mkstemp tempfile.TemporaryFile tempfile.NamedTemporaryFile
    tempfile.TemporaryDirectory sqlite3.connect psycopg.connect psycopg.AsyncConnection.connect asyncpg.connect
    aiosqlite.connect boto3.client boto3.resource redis.Redis
"""
_PROCESS = """
    subprocess.run subprocess.Popen subprocess.call subprocess.check_call subprocess.check_output subprocess.getoutput
    os.system os.popen os.fork os.spawnv os.execv os.posix_spawn asyncio.create_subprocess_exec
    asyncio.create_subprocess_shell anyio.run_process anyio.open_process multiprocessing.Process multiprocessing.Pool
"""
_THREAD = """
    threading.Thread threading.Timer asyncio.to_thread anyio.to_thread.run_sync
    concurrent.futures.ThreadPoolExecutor concurrent.futures.ProcessPoolExecutor asyncio.run_coroutine_threadsafe
"""
_ENVIRONMENT = """
    os.environ os.getenv os.environb os.getpid os.cpu_count platform sys.argv
"""

BY_RULE: dict[str, frozenset[str]] = {
    "PDR001": frozenset(_CLOCK.split()),
    "PDR002": frozenset(_RANDOM.split()),
    "PDR003": frozenset({"uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"}),
    "PDR004": frozenset(_IO.split()),
    "PDR005": frozenset(_PROCESS.split()),
    "PDR006": frozenset(_THREAD.split()),
    "PDR007": frozenset({"time.sleep"}),
    "PDR008": frozenset(_ENVIRONMENT.split()),
    "PDR015": frozenset({"id", "hash", "builtins.id", "builtins.hash"}),
}

#: Those that matter wherever they are named, called or not.
NAMED = frozenset({"os.environ", "os.environb", "sys.argv"})

#: Read the clock only if they aren't told a time, by how many arguments that takes.
CLOCK_WITHOUT = {
    "time.localtime": 1,
    "time.gmtime": 1,
    "time.ctime": 1,
    "time.asctime": 1,
    "time.strftime": 2,
}

#: Methods that are those of pathlib.Path, whatever the object is called.
PATH_METHODS = frozenset(
    {"read_text", "write_text", "read_bytes", "write_bytes", "iterdir", "rglob", "is_file", "is_dir"}
)

#: Methods that change a list, dict, set or deque.
_MUTATORS = """
    append appendleft extend extendleft insert pop popleft popitem remove clear update add discard setdefault
    sort reverse
"""
MUTATORS = frozenset(_MUTATORS.split())
#: What makes one.
_MUTABLE = """
    list dict set bytearray collections.defaultdict collections.Counter collections.OrderedDict collections.deque
    collections.ChainMap
"""
MUTABLE = frozenset(_MUTABLE.split())


def rule_of(name: str) -> str | None:
    """The rule that a dotted name breaks when it is called."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        start = ".".join(parts[:length])
        for code, names in BY_RULE.items():
            if start in names:
                return code
    return None
