set positional-arguments

python := ".venv/bin/python"
parallel := "-n auto --maxprocesses 4 --dist loadgroup"
loops := "tests/test_loop.py tests/test_loop_padding.py tests/test_loop_remat.py tests/test_layers_bidirectional.py tests/test_layers_recurrent.py tests/test_layers_stack.py tests/test_cells_lstm.py"
core := "tests/test_cell.py tests/test_cells_elman.py tests/test_imports.py tests/test_layers_bidirectional.py tests/test_layers_recurrent.py tests/test_layers_stack.py tests/test_linen.py tests/test_loop.py tests/test_nnx.py tests/test_train_step.py tests/test_transforms.py"

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

# run the tests but the slow ones, with coverage; or those that arguments choose
test *args: setup
    @{{python}} -m pytest {{parallel}} {{ if args == "" { "-m 'not slow' --cov" } else { "" } }} "$@"

# run all tests, also every case of the long tables and every program from start to end
test-all: setup
    @{{python}} -m pytest {{parallel}} --cov

# run the tests of the core with the newest Python and JAX: those of the kernel, and all others on the backend of other platforms
test-newest:
    @python3 requirements/install.py --newest && .venv-newest/bin/python -m pytest {{parallel}} -m 'not slow' {{core}} --backend fused
    @.venv-newest/bin/python -m pytest {{parallel}} -m 'not slow' tests/test_backends.py tests/test_backends_cpu.py tests/test_sharding.py tests/test_family.py::test_padding_counts_for_nothing

# run the tests of layers and the loop by plain `lax.scan`
test-scan: setup
    @{{python}} -m pytest {{parallel}} -m 'not slow' --backend scan {{loops}}

# lint, format, types, import contracts
check: setup
    @.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/mypy tests/typed_options.py && .venv/bin/lint-imports
