"""Which names and texts are taken for secrets, by the runner that masks output and by pages that show parameters."""

import re

#: Names of secrets. Separators may be missing or "-", as in dbPassword or api-key.
SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|BEARER|COOKIE|WEBHOOK"
    r"|(?:API|ACCESS|PRIVATE|ENCRYPTION|SIGNING|ACCOUNT|STORAGE|SHARED|MASTER|LICENSE|AUTH|DEPLOY|SSH|HMAC)[_-]?KEY"
    r"|CONN(?:ECTION)?[_-]?STR(?:ING)?|AUTH[_-]?STRING"
    r"|(?:^|[_.-])(?:PASS|AUTH|DSN|SAS)(?:$|[_.-])|[_.-]PWD$",
    re.IGNORECASE,
)
#: The password of "scheme://user:password@host". Begins with a fixed text, so that a long value costs no more than one
#: pass.
URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s]+)@")
