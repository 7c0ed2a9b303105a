from django.contrib import admin
from django.urls import include, path

# By name, because stats is a layer above; Django checks at the start that the names exist.
handler400 = "leadgateway.errors.bad_request"
handler403 = "stats.admin.error_pages.permission_denied"
handler404 = "stats.admin.error_pages.not_found"
handler500 = "stats.admin.error_pages.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("leads.urls")),
    path("", include("stats.api.urls")),
]
