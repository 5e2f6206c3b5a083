"""As much of xllamacpp as is used; the wheel comes without types."""

class CommonParamsModel:
    path: str

class CpuParams:
    n_threads: int

class CommonParams:
    model: CommonParamsModel
    model_alias: set[str]
    hostnames: list[str]
    port: int
    n_parallel: int
    n_ctx: int
    cpuparams: CpuParams
    cpuparams_batch: CpuParams
    cache_ram_mib: int
    endpoint_slots: bool
    ui: bool

class Server:
    listening_address: str
    def __init__(self, params: CommonParams) -> None: ...
