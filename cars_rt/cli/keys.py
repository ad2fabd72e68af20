"""`cars-rt keys`: key pairs for encrypted streams."""

from pathlib import Path

from cyclopts import App

from cars_rt.printable import printable

keys = App(name="keys", help="Make and show key pairs, by which programs know each other.")


@keys.command
def new(name: str, *, folder: Path | None = None, overwrite: bool = False) -> None:
    """Make a key pair: NAME.key, which stays here and secret, and NAME.pub, which the others get.

    Example: cars-rt keys new microscope-1

    Parameters
    ----------
    name
        Who will have it: a computer, a program or a person.
    folder
        Where to put the two files; your own configuration folder if not given.
    overwrite
        Replace a pair of that name. The old one is of no use any more.
    """
    from cars_rt.trust.keys import SECRET, create

    pair = create(name, folder, overwrite=overwrite)
    public = pair.public.path
    print(f"secret key   {printable(public.with_name(f'{name}{SECRET}'))}")
    print(f"public key   {printable(public)}")
    print(f"fingerprint  {pair.public.fingerprint}")


@keys.command
def show(file: Path) -> None:
    """Show the public key of a file and its fingerprint, to be compared with what the other end shows.

    Parameters
    ----------
    file
        NAME.key or NAME.pub; of a secret key, only the public half is shown.
    """
    from cars_rt.trust.keys import read_public

    public = read_public(file, or_pair=True)
    print(f"name         {printable(public.name)}")
    print(f"public key   {public.z85.decode()}")
    print(f"fingerprint  {public.fingerprint}")
