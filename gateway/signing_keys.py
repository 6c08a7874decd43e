"""The public keys with which the auth service signs, kept here so that verifying asks nobody."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import grpc
from jose.exceptions import JOSEError

from gateway.retries import repeated
from services.shared.errors import unavailable
from services.shared.jwt import VerificationKey
from tmi.auth.v1.directory_pb2 import ListSigningKeysRequest

if TYPE_CHECKING:
    from tmi.auth.v1.directory_pb2_grpc import DirectoryAsyncStub

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 300.0
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
UNKNOWN_KEY_SECONDS = 2.0
"""Least time between two refreshes that tokens with an unknown `kid` may cause."""
_CALL_SECONDS = 5.0


class SigningKeys:
    """Keys by `kid`, and the issuer and audience that tokens must name.

    `run` keeps them fresh. Once fetched they stay in use while the auth service is down.
    `generation` changes whenever a key appears or goes.
    """

    def __init__(self, directory: "DirectoryAsyncStub") -> None:
        self._directory = directory
        self._refreshing = asyncio.Lock()
        self._refreshed_at = float("-inf")
        self.keys: dict[str, VerificationKey] = {}
        self.issuer = ""
        self.audience = ""
        self.generation = 0

    def require(self) -> None:
        """Raises ApiError 503 as long as no keys were ever fetched."""
        if not self.keys:
            raise unavailable("Tokens cannot be checked yet: the auth service has not answered.")

    async def run(self) -> None:
        """Fetches the keys now and periodically; never returns."""
        retry = FIRST_RETRY_SECONDS
        while True:
            if await self.refresh():
                retry = FIRST_RETRY_SECONDS
                await asyncio.sleep(REFRESH_SECONDS)
            else:
                await asyncio.sleep(retry)
                retry = min(2 * retry, LONGEST_RETRY_SECONDS)

    async def learn(self, kid: str) -> bool:
        """Whether the key is known, after asking for it if that was not done just now."""
        if kid in self.keys:
            return True
        async with self._refreshing:
            if kid not in self.keys and time.monotonic() - self._refreshed_at >= UNKNOWN_KEY_SECONDS:
                await self._fetch()
        return kid in self.keys

    async def refresh(self) -> bool:
        """Fetches the keys. False when the auth service cannot be reached or has none."""
        async with self._refreshing:
            return await self._fetch()

    async def _fetch(self) -> bool:
        self._refreshed_at = time.monotonic()
        try:
            answer = await repeated(
                lambda seconds: self._directory.ListSigningKeys(
                    ListSigningKeysRequest(), timeout=seconds, wait_for_ready=True
                ),
                _CALL_SECONDS,
            )
        except grpc.RpcError as error:
            logger.warning("cannot fetch signing keys from the auth service", extra={"code": str(error.code())})
            return False
        keys: dict[str, VerificationKey] = {}
        for key in answer.keys:
            try:
                keys[key.kid] = VerificationKey.load(key.kid, key.algorithm, key.verification_key)
            except (ValueError, JOSEError) as error:
                logger.error("unusable signing key", extra={"kid": key.kid, "reason": str(error)})
        if not keys:
            return False
        if keys.keys() != self.keys.keys():
            self.generation += 1
            logger.info("signing keys", extra={"kids": sorted(keys)})
        self.keys, self.issuer, self.audience = keys, answer.issuer, answer.audience
        return True
