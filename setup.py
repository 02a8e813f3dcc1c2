"""What pyproject.toml cannot say: experiments and sweeps lie at the root and are installed within the package.

``experiments/`` becomes ``dig/experiments/`` and ``sweeps/*.yaml`` go beside the modules of ``dig/sweeps/``, where an
installed ``dig`` looks for what the current folder has not. An editable installation reads the project's own folders.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithExperiments(build_py):
    """Copies the YAML files of the project's root into the built package."""

    def run(self) -> None:
        """Builds as ever, then copies."""
        super().run()
        if not self.editable_mode:
            for source, target in self._copies().items():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the package, those copied included."""
        return [*super().get_outputs(include_bytecode), *self._copies().values()]

    def _copies(self) -> dict[str, str]:
        files = [path for folder in ("experiments", "sweeps") for path in sorted(Path(folder).rglob("*.yaml"))]
        return {str(path): str(Path(self.build_lib, "dig", path)) for path in files}


setup(cmdclass={"build_py": BuildWithExperiments})
