"""Django REST framework's view for an event loop. The framework has none of its own."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView


class AsyncThrottle(BaseThrottle):
    """A throttle whose decision is awaited."""

    async def allow_request(self, request: Request, view: APIView) -> bool:  # type: ignore[override]
        """Return whether the request is within the limit."""
        raise NotImplementedError


class AsyncAPIView(APIView):
    """An APIView whose method handlers and throttles are coroutines. Authentication must not wait for anything."""

    throttle_classes: list[type[AsyncThrottle]]

    async def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:  # type: ignore[override]
        """Do what APIView does: authenticate, throttle, call the method's handler, turn exceptions into responses."""
        self.args, self.kwargs = args, kwargs
        self.headers = self.default_response_headers
        self.request = drf_request = self.initialize_request(request, *args, **kwargs)
        try:
            self.perform_authentication(drf_request)
            await self._throttle(drf_request)
            method = str(request.method).lower()
            handler: Any = getattr(self, method) if method in self.http_method_names else self.http_method_not_allowed
            response = await handler(drf_request, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 (as APIView does)
            response = self.handle_exception(error)
        self.response = self.finalize_response(drf_request, response, *args, **kwargs)
        return self.response

    async def _throttle(self, request: Request) -> None:
        for throttle in self.get_throttles():
            if not await throttle.allow_request(request, self):  # type: ignore[misc]
                self.throttled(request, throttle.wait())  # type: ignore[arg-type]
