import pytest

from services.shared.settings import Settings


@pytest.fixture
def collaboration_settings(redis_url: str) -> Settings:
    return Settings(build_mode="test", redis_url=redis_url, host_grace_seconds=0.5)
