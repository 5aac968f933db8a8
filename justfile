set positional-arguments

python := ".venv/bin/python"
core := "tests/_src tests/cells tests/flax tests/layers tests/train/test_step.py tests/test_transforms.py tests/project/test_imports.py"
parallel := "-n auto --maxprocesses 4 --dist loadgroup"

# list the recipes
default:
    @{{just_executable()}} --list --unsorted

# make .venv and install everything in it, once
setup:
    @python3 requirements/install.py

# train on real digits, load the weights into TensorFlow, show that both compute the same
demo: setup
    @{{python}} examples/00_demo.py

# compare with other frameworks, case by case (--help tells the options)
parity *args: setup
    @{{python}} -m parity "$@"

# train each example here and in TensorFlow, side by side (--help tells the options)
systems *args: setup
    @{{python}} -m benchmarks.systems "$@"

# run the examples in full and keep the figures that they print (names choose some of them)
figures *args: setup
    @{{python}} -m benchmarks.figures "$@"

# measure speed against other frameworks, which are installed for it (--help tells the options)
bench *args: setup
    @python3 requirements/install.py --peers && {{python}} -m benchmarks "$@"

# check and measure the GPU kernel on a GPU, in seven minutes, with the python3 on the PATH (--help tells the options)
[no-exit-message]
gpu *args:
    @PYTHONPATH="{{justfile_directory()}}${PYTHONPATH:+:$PYTHONPATH}" python3 -m benchmarks.gpu "$@"

# build the documentation in build/docs/html, where a warning is an error (arguments go to sphinx-build)
docs *args: setup
    @python3 requirements/install.py --docs && {{python}} -m sphinx -W --keep-going -n -q -d build/docs/doctrees docs build/docs/html "$@"

# run the tests but the slow ones, with coverage; or those that arguments choose
test *args: setup
    @{{python}} -m pytest {{parallel}} {{ if args == "" { "-m 'not slow' --cov" } else { "" } }} "$@"

# run all tests, also every case of the long tables and every program from start to end
test-all: setup
    @{{python}} -m pytest {{parallel}} --cov

# run the tests marked newest_jax with the newest Python and JAX: those of the kernel, and all others on the backend of other platforms
test-newest: setup newest-core newest-kernels

# those of the core, for which .venv need not be complete
[private]
newest-core:
    @python3 requirements/install.py --newest && .venv-newest/bin/python -m pytest {{parallel}} -m 'newest_jax and not slow' {{core}} --backend fused

[private]
newest-kernels:
    @.venv-newest/bin/python -m pytest {{parallel}} -m 'newest_jax and not slow' tests/backends tests/test_sharding.py

# run the tests marked every_backend by plain `lax.scan`
test-scan: setup
    @{{python}} -m pytest {{parallel}} -m 'every_backend and not slow' {{core}} --backend scan

# build the sdist and the wheel in dist, and test the wheel in an environment with nothing else
wheel:
    @python3 requirements/wheel.py

# lint, format, types, import contracts; names, comments, lengths and docstrings
check: setup
    @.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/mypy tests/typed_options.py && .venv/bin/lint-imports
    @{{python}} -m pytest -q tests/project/test_style.py
