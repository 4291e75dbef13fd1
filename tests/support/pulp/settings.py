import os

SECRET_KEY = "lab"
DEPLOY_ROOT = "/var/lib/pulp"
# One place for all hosts, as NFS would be.
MEDIA_ROOT = "/shared/media"
WORKING_DIRECTORY = "/var/lib/pulp/tmp"
FILE_UPLOAD_TEMP_DIR = "/var/lib/pulp/tmp"
STATIC_ROOT = "/var/lib/pulp/assets"
DB_ENCRYPTION_KEY = "/etc/pulp/certs/database_fields.symmetric.key"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "pulp",
        "USER": "pulp",
        "HOST": os.environ.get("PULP_DB_HOST", "10.77.0.5"),
        "CONN_MAX_AGE": 0,
    }
}
CONTENT_ORIGIN = "http://10.77.0.2:24816"
ALLOWED_IMPORT_PATHS = ["/shared/fixture"]
ANALYTICS = False
CACHE_ENABLED = False
