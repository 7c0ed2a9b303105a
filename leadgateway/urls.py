from django.contrib import admin
from django.urls import include, path

handler400 = "leadgateway.errors.bad_request"
handler403 = "leadgateway.errors.permission_denied"
handler404 = "leadgateway.errors.not_found"
handler500 = "leadgateway.errors.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("leads.urls")),
    path("", include("stats.api.urls")),
]
