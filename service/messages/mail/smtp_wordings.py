"""Wordings of single providers and servers that the general patterns (``smtp_words``) do not know.

Each row: what the wording is about, how it is recognised, and whose documentation or source tells so. Words
are matched without case, after addresses, hosts and URLs were taken out.
"""

import re
from collections.abc import Iterator

_WAY, _MAILBOX, _US, _ADDRESS = "way", "mailbox", "us", "address"

_WORDINGS: tuple[tuple[str, str, str], ...] = (
    # ── Large providers ─────────────────────────────────────────────────────────────────────────────────────
    (_US, r"\bour system has detected\b|\bunusual rate of\b"
          r"|\blow reputation\b", "Gmail: SMTP errors and codes"),
    (_US, r"\blikely (?:unsolicited|suspicious|spam)", "Gmail: SMTP errors and codes"),
    (_WAY, r"\bresponded with code (?:SERVFAIL|REFUSED)", "Gmail: delivery reports of DNS errors"),
    (_ADDRESS, r"\bresponded with code NXDOMAIN|\bno such domain\b", "Gmail: delivery reports of DNS errors"),
    (_WAY, r"\bdid not accept our requests? to connect\b", "Gmail: delivery reports"),
    (_US, r"\b(?:you )?may not have permission to post\b", "Google Groups: bounced posts"),
    (_US, r"\b[SD][CY]-00\d\b|\bOU-00\d\b|\bS(?:3150|3140|77719|844)\b"
          r"", "Outlook.com: postmaster error codes"),
    (_US, r"\bRESOLVER\.RST\.(?:Not|Restrict|Auth|Sender)|\bSTOREDRV\.\S*(?:Denied"
          r"|SendAs)", "Exchange: NDR diagnostics"),
    (_US, r"\bOutOfOrg|\bTransportRules\.RejectMessage|\bSmtpSendAsDenied"
          r"|\bAntispam\b", "Exchange: NDR diagnostics"),
    (_US, r"\bnot able to send to this (?:recipient|group)|\bdelivery to this (?:recipient"
          r"|address) is restricted",
     "Exchange: NDR diagnostics"),
    (_MAILBOX, r"\bQuotaExceeded|\bMapiExceptionShutoffQuota|\bMailboxDisabled|\bSTOREDRV\.\S*Disabled"
               r"|\bMailboxFull",
     "Exchange: NDR diagnostics"),
    (_ADDRESS, r"\bRESOLVER\.ADR\.\w*(?:Recip\w*NotFound|InvalidInSmtp|BadPrimary)"
               r"|\bRecip(?:ient)?NotFound\b",
     "Exchange: NDR diagnostics"),
    (_WAY, r"\b(?:message|delivery)[ -]expired|\bAgentGeneratedMessageFromDeferred|\bSTOREDRV\.\S*Transient",
     "Exchange: NDR diagnostics"),
    (_US, r"\[TS[SU]\d\d\]|\[BL\d\d\]|\[IPTS\d\d\]"
          r"|\bnot accepted for policy reasons", "Yahoo: postmaster error codes"),
    (_ADDRESS, r"\bdoes(?:n't| not) have an? \w+(?:\W\w+)? account\b"
               r"|\bdd (?:requested mail action not taken|this user)",
     "Yahoo: postmaster error codes"),
    (_MAILBOX, r"\bdd [^.]{0,40}\bmailbox (?:is )?(?:disabled|over)", "Yahoo: postmaster error codes"),
    (_US, r"\[?(?:HM|CS|HVU|DYN|RLY|RTR|LEO)[:\d]\S{0,8}\]?(?=\W)[^.]{0,60}\b(?:block|reject|refus|denied"
          r"|spam|reputation)",
     "AOL and Apple: postmaster error codes"),
    (_MAILBOX, r"\buser is over (?:the )?quota|\bnot accepting (?:any )?(?:more |new )?(?:mails?"
               r"|messages)(?! from)",
     "Apple iCloud: postmaster page"),
    (_US, r"\bRCP-P[23456]\b|\bPOL-\w+|\bMSG-P?\d|\bCON-\w+|\bDNS-P", "Facebook: postmaster response codes"),
    (_ADDRESS, r"\bRCP-P1\b", "Facebook: postmaster response codes"),
    (_WAY, r"\bINT-\w\d|\bRCP-T\d|\bDNS-T", "Facebook: postmaster response codes"),
    (_MAILBOX, r"\buser'?s? space has been used up|\bspace has been used up", "Mail.ru: postmaster rules"),
    (_US, r"\bspam message (?:discarded|rejected)|\bnon-?RFC"
          r"|\bnot RFC\b", "Mail.ru and Yandex: postmaster rules"),
    (_US, r"\bnemesis\b|\bmail (?:refused|rejected) for policy|\bbad (?:dns|header"
          r"|helo)\b", "GMX, web.de and mail.com: error messages"),
    (_MAILBOX, r"\bBo[iî]te du destinataire (?:archiv[ée]e|pleine)"
               r"|\bMailbox archiv", "Orange and Wanadoo: postmaster"),
    (_ADDRESS, r"\b(?:OFR|LPN)(?:\d{3})?_?416\b", "Orange and La Poste: postmaster, codes"),
    (_US, r"\b(?:OFR|LPN)(?:\d{3}_|_)?(?!41[67])\d{3}\b|\bopr_\w+", "Orange and La Poste: postmaster, codes"),
    (_US, r"\bspam detected|\btoo many spams?\b|\bFREE_\w+", "Free: postmaster"),
    (_US, r"\bBL0\d{5}\b|\bRL0\d{5}\b|\b(?:PTR|DM|RLF)00\d+", "Comcast: error codes"),
    (_ADDRESS, r"\bnot our customer\b|\bAUP#1260\b", "Comcast and Cox: error codes"),
    (_US, r"\bAUP#[-\w]+", "Cox, Charter and RR: error codes"),
    (_US, r"\bDT:SP[MB]\b|\bMI:[A-Z]{2,4}\b|\bHL:[A-Z]{2,4}\b|\bRP:[A-Z]{2,4}\b"
          r"|\bCNNIC\b", "NetEase 163 and 126: error codes"),
    (_ADDRESS, r"\bMN:NVD\b|\bDT:RBL NVD\b", "NetEase 163 and 126: error codes"),
    (_US, r"\bMail content denied|\bConnection frequency limited|\bSuspected bounce attacks"
          r"|\bDomain frequency limited",
     "QQ: mail error codes"),
    (_ADDRESS, r"\bMailbox not found\b|\bNo such user\b", "QQ: mail error codes"),
    (_US, r"\bIB[12]\d{3}\b|\bIB60\d\b", "GoDaddy and Secureserver: bounce codes"),
    (_ADDRESS, r"\bAddress does not exist\b"
               r"|\bInvalid Address\b", "ProtonMail, Fastmail, Zoho: bounce wordings"),
    (_MAILBOX, r"\brecipient (?:id )?(?:refuses?|is refusing) to receive|\bsuspend(?:s|ed)? the service",
     "Japanese mobile providers: error mails"),
    (_MAILBOX, r"\bthe user\(s\) account is (?:disabled|temporarily limited)"
               r"|\bas their mailbox is full", "KDDI au and EZweb: error mails"),
    (_ADDRESS, r"\bno valid recipients\b|\b(?:not|in)valid (?:phone"
               r"|mobile) ?number", "Verizon vtext: error mails"),
    # ── Servers ─────────────────────────────────────────────────────────────────────────────────────────────
    (_WAY, r"\bretry time(?:out| not)\b|\bretry timeout exceeded"
           r"|\bfailing for a long time", "Exim: specification, retry"),
    (_WAY, r"\blocal delivery failed\b|\bchild process of \S+ transport"
           r"|\bcommand for transport", "Exim: transports"),
    (_WAY, r"\bhost lookup did not complete|\bname server error|\brouting defer", "Exim: routers"),
    (_ADDRESS, r"\ball (?:relevant )?(?:MX records point to non-existent"
               r"|host address lookups? failed permanently)",
     "Exim: dnslookup router"),
    (_ADDRESS, r"\bunrouteable mail domain\b", "Exim 3: router failure"),
    (_ADDRESS, r"\bMX or SRV record indicated no SMTP service", "Exim: dnslookup router, null MX"),
    (_WAY, r"\bcommand (?:died|time limit)|\bunknown mail(?:er)? error|\bmailer (?:timed out"
           r"|error)", "Postfix pipe and sendmail mailers"),
    (_WAY, r"\bcan'?t create (?:user )?output|\bservice (?:not |un)available\W*(?:$|closing)|\bI/O error"
           r"|\bcan(?:not|'t) open ",
     "sendmail: sysexits in reports"),
    (_WAY, r"\bName (?:service|server)[^.]{0,80}(?:try again|no data|timed? ?out|lookup failure|malformed)",
     "Postfix and sendmail: name servers"),
    (_ADDRESS, r"\bName service error for name=[^.]{0,80}\bHost (?:not found(?!, try)"
               r"|found but no data)", "Postfix: smtp(8), DNS"),
    (_WAY, r"\bbest-preference MX|\bcontrol/locals|\bno SMTP connection|\bestablish an SMTP connection"
           r"|\bin the queue too long",
     "qmail: qmail-remote, qmail-send"),
    (_ADDRESS, r"\bcouldn'?t find any host named\b", "qmail: qmail-remote"),
    (_US, r"\bbadrcptto\b|\bbadmailfrom\b|\bCNAME lookup failed temporarily\b", "qmail: control files"),
    (_WAY, r"\bvdelivermail: (?!account is locked)|\bvchkpw\b|\bNo deliverable", "vpopmail"),
    (_WAY, r"\bnetwork error on destination MX|\bcould not retrieve credentials"
           r"|\bbad socket family", "OpenSMTPD: mta"),
    (_ADDRESS, r"\bno MX found for domain\b", "OpenSMTPD: mta"),
    (_ADDRESS, r"\bnot listed in (?:public name|(?:the )?domino dir|(?:this|the) (?:address book"
               r"|directory))", "Domino: delivery failures"),
    (_ADDRESS, r"\bdestination addresses? (?:were|was) unknown|\bunknown or illegal alias"
               r"|\billegal host/domain",
     "Sun and Oracle Messaging Server"),
    (_ADDRESS, r"\brecipient name is not recogni[sz]ed|\bunrecogni[sz]ed[ -]OR[ -]name"
               r"|\bunable to deliver to [^.]{0,40}: unknown",
     "X.400 and Exchange 5.5: reasons"),
    (_WAY, r"\bmaximum[ -]time[ -]expired|\bloop[ -]detected|\bunable[ -]to[ -]transfer", "X.400: reasons"),
    (_MAILBOX, r"\bnumber of messages in recipient'?s mailbox exceeded|\buser mailbox exceeds allowed size",
     "Biglobe, IMail: error mails"),
    (_US, r"\bnot local host\b|\bnot a gateway\b", "IMail: relaying (no document found)"),
    (_US, r"\b(?:not|non)[ -](?:a )?member\b|\bmembers? only\b"
          r"|\bnot subscribed\b", "FML, Mailman, Majordomo: closed lists"),
    (_ADDRESS, r"\bbad destination (?:mailbox|e-?mail|system) address|\bbad destination (?:system"
               r"|mailbox)\b", "IANA: enhanced status codes"),
    (_MAILBOX, r"\brecent history of bouncing"
               r"|\bon the [^.]{0,40}suppression list", "Amazon SES: suppression list"),
    # ── Filters and lists ───────────────────────────────────────────────────────────────────────────────────
    (_US, r"\bspam(?:haus|cop|assassin)|\bsorbs\b|\bbarracuda|\bproofpoint|\bcloudmark|\buceprotect"
          r"|\binvaluement|\babusix"
          r"|\bsender ?(?:base|score)|\bmimecast|\bmessagelabs|\bbrightmail|\biron ?port|\brspamd|\bvade\b"
          r"|\btrend ?micro"
          r"|\bpostini|\bmailspike|\bnixspam|\bbackscatter\b|\bxbl\b|\bpbl\b|\bsbl\b|\bcss\b|\bdnswl\b|\breputation",
     "the lists and filters themselves"),
    (_US, r"\bopen (?:relay|prox)|\bzombie|\bdial-?up|\bdynamic(?:ally)? (?:\w+ )?(?:ip|address|range"
          r"|host)|\bbotnet|\bcompromised",
     "the lists' reasons"),
)  # fmt: skip

_PATTERNS = tuple(
    (about, re.compile("|".join(p for a, p, _ in _WORDINGS if a == about), re.IGNORECASE))
    for about in (_WAY, _MAILBOX, _US, _ADDRESS)
)


def named_by_wordings(words: str) -> Iterator[str]:
    """The values of ``About`` whose wordings are in these words."""
    return (about for about, pattern in _PATTERNS if pattern.search(words))
