"""Commands about frequencies, idle states and power profiles."""

from vfio_hooks.migrate.meanings.meaning import CPU_FILE, Meaning

MEANINGS = (
    Meaning(
        rf"^write (?P<governor>\w+|\?) ?> ?{CPU_FILE}scaling_governor$",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor",),
    ),
    Meaning(
        r"^(?:cpupower\b.*\bfrequency-set|cpufreq-set)\b(?=.* (?:-\w*[gd]|--governor|--min)\b)"
        r"(?:(?=.* (?:-\w*g ?|--governor[ =])(?P<governor>[\w?]+)))?"
        r"(?:(?=.* (?:-d ?|--min[ =])(?P<min_freq>[\d.]+[kMG]?(?:Hz)?)\b))?",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor", "min_freq"),
    ),
    Meaning(
        r"^vfio-isolate\b.*\bcpu-governor (?P<governor>\w+)",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor",),
    ),
    Meaning(
        r"^write (?P<energy_performance_preference>\w+|\?) ?> ?"
        rf"{CPU_FILE}energy_performance_preference$",
        "table",
        "governor",
        "the preference between speed and energy",
        ("energy_performance_preference",),
    ),
    Meaning(
        r"^x86_energy_perf_policy\b.* (?P<energy_performance_preference>performance|power)$",
        "table",
        "governor",
        "the preference between speed and energy",
        ("energy_performance_preference",),
    ),
    Meaning(
        rf"^write (?P<min_freq>\d+|\?) ?> ?{CPU_FILE}scaling_min_freq$",
        "table",
        "governor",
        "the lowest frequency",
        ("min_freq",),
    ),
    Meaning(
        rf"^write (?P<boost>[01?]) ?> ?{CPU_FILE}boost$",
        "table",
        "governor",
        "turbo frequencies",
        ("boost",),
    ),
    Meaning(
        rf"^write n/a ?> ?{CPU_FILE}pm_qos_resume_latency_us$|^cpupower\b.* idle-set (?:-D ?|"
        r"--disable-by-latency[ =])0$",
        "table",
        "governor",
        "the VM's CPUs use no idle state that takes time to leave",
        ("max_exit_latency=0",),
    ),
    Meaning(
        rf"^write 0 ?> ?{CPU_FILE}pm_qos_resume_latency_us$",
        "needless",
        "governor",
        "0 means no limit in this file, and there is none without max_exit_latency",
    ),
    Meaning(
        rf"^write (?P<max_exit_latency>\d+|\?) ?> ?{CPU_FILE}pm_qos_resume_latency_us$",
        "table",
        "governor",
        "the VM's CPUs use only idle states that they leave in this time",
        ("max_exit_latency",),
    ),
    Meaning(
        r"^cpupower\b.* idle-set (?:-D ?|--disable-by-latency[ =])(?P<disabled_from>\d+)$",
        "table",
        "governor",
        "the VM's CPUs use only idle states that they leave in a shorter time",
        ("disabled_from",),
    ),
    Meaning(
        r"^cpupower\b.* idle-set (?:-E|--enable-all)$",
        "needless",
        "governor",
        "a limit ends with the VM",
    ),
    Meaning(
        r"^powerprofilesctl set (?P<power_profile>performance|power-saver)$",
        "table",
        "governor",
        "the power profile is held while the VM runs",
        ("power_profile",),
    ),
    Meaning(
        r"^powerprofilesctl set (?P<power_profile>\S+)",
        "keep",
        "governor",
        "only performance and power-saver can be held, so it stays a script",
        ("power_profile",),
    ),
    Meaning(
        rf"^write (?P<boost>[01?]) ?> ?{CPU_FILE}no_turbo$",
        "table",
        "governor",
        "turbo frequencies",
        ("boost",),
    ),
)
