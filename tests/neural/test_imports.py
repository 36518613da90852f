import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_package_does_not_import_optax_and_the_neural_part_names_the_extra_without_it():
    told = run(
        "import sys, ensembletheory\n"
        "print('optax' in sys.modules)\n"
        "sys.modules['optax'] = None\n"
        "try:\n    import ensembletheory.neural\n"
        "except ImportError as error:\n    print(error)\n"
    ).splitlines()
    assert told == ["False", "this needs optax, which comes with an extra: pip install 'ensembletheory[neural]'"]
