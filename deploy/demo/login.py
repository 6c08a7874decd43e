"""`make token NAME=alice PROVIDER=oidc`: logs in at the running system and prints an access token."""

import asyncio
import sys

import httpx

from deploy.demo.client import Person, UnexpectedAnswer
from deploy.demo.system import NoSystem, running_gateways


async def _token(name: str, provider: str) -> str:
    async with Person(name, running_gateways()[0], provider=provider) as person:
        await person.log_in()
        return person.access_token


def main(arguments: list[str]) -> int:
    """Prints the token on stdout; a failure is one line on stderr and exit code 1."""
    try:
        name = arguments[0] if arguments else "alice"
        token = asyncio.run(_token(name, arguments[1] if len(arguments) > 1 else "tmi"))
    except (NoSystem, UnexpectedAnswer, httpx.HTTPError) as error:
        sys.stderr.write(f"make token: {error}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
