"""Patterns for the words of a mail server's reply. In languages other than English the codes decide; of these
only what says "unknown" or "full" is known.
"""

import re

_LONGEST = 2000
"""Characters of a reply that are read; real replies are much shorter."""

_QUOTED = re.compile(
    r"\b[a-z][a-z0-9+.-]{0,20}://\S+"  # a URL
    r"|<[^<>\s]*@[^<>\s]*>|[^\s<>()\[\]:,;]+@[^\s<>()\[\]:,;]+"  # an address, a Message-ID
    r"|(?<![\w.-])(?:[\w-]+\.)+(?-i:[a-z][a-z0-9-]*)(?![\w-])",  # a host, but not the end of a sentence
    re.IGNORECASE,
)
_SPACE = re.compile(r"\s+")


_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://\S+|\bwww\.\S+", re.IGNORECASE)


def without_urls(text: str) -> str:
    """The text without URLs, in which anything may stand."""
    return _URL.sub(" ", text[: 2 * _LONGEST])


_OPENERS = re.compile(r"\b(?:the )?(?:message|mail) was not accepted --", re.IGNORECASE)
"""Words with which a provider begins whatever the reason is (mail.ru)."""


def prose(text: str) -> str:
    """The reply on one line, without quoted addresses, URLs and hosts."""
    text_without_quotes = _QUOTED.sub(" ", text[:_LONGEST].replace("’", "'"))
    return _SPACE.sub(" ", _OPENERS.sub(" ", text_without_quotes)).strip()


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_PERSON = r"(?<!your )\b(?:user|account|mail ?box|in ?box|recipient|address(?:ee)?|person|customer)\b"

# ── The way ─────────────────────────────────────────────────────────────────────────────────────────────────

GREYLISTED = _any_of(r"gr[ae]y-? ?list")
TRY_AGAIN = _any_of(r"(?<!and )(?<!then )(?<!or )\btry again\b(?! with| using)")
"""Ambiguous: a failed log-in may also be tried again, with the right password."""
LATER = _any_of(
    GREYLISTED.pattern,
    r"\b(?:try|retry|resend)(?: \w+){0,2} (?:later|in (?:a|an|some|\d+)\b|after \d|soon|shortly)",
    r"\bcome back\b",
    r"\btoo many (?:recipients|connections|concurrent|messages|mails|sessions|hops)\b",
    r"\brate[- ]limit|\bthrottl|\btoo (?:fast|quickly)\b|\bslow down\b",
    r"\bun-?route?able\b(?! mail domain)|\bno route\b|\b(?:cannot|can't|unable to|could not) (?:be )?route",
    r"\brouting (?:loop|error)",
    r"\bmail loop|\bhop count\b|\bloops? back\b",
    r"\b(?:server|system|service|relay) (?:(?:is|currently|too|very) ){0,3}(?:busy|overloaded|down)\b",
    r"\bshutting down\b",
    r"\btimed? ?out\b|\bunreachable\b|\bnot reachable\b|\bno answer\b|\bhost (?:is )?down\b",
    r"\bconnection (?:refused|lost|reset|died|aborted|broken|closed|dropped)\b|\blost connection\b",
    r"\b(?:unable|failed|cannot|can't|couldn't|could not|not able) (?:to )?(?:connect|establish|contact)\b",
    r"\b(?:message|mail|delivery|queue)\b[^.;]{0,30}\b(?:expired|(?:is|was) too old)\b"
    r"|\bqueue (?:life)?time\b",
    r"\b(?:in|on) (?:the )?(?:\w+ )?queue (?:for )?too long\b|\bdeferred\b|\bloop(?:s|ing)?\b",
    r"\b(?:disk|spool|file ?system|queue) (?:is )?(?:nearly |almost )?full\b|\bno space left\b",
    r"\bqueue file\b|\bspool\b",
    r"\binsufficient (?:system|resources|disk|queue)\b|\bout of resources\b|\bout of (?:memory|disk)"
    r"|\blook-?up (?:failed|failure|error)",
    r"\b(?:local|internal|system|software|disk|server|i/o)(?: \w+)? (?:error|problem|failure)",
)
TEMPORARY = _any_of(r"\btemporar(?:y|ily)\b")

# ── One person's mailbox ────────────────────────────────────────────────────────────────────────────────────

_OUR_QUOTA = _any_of(
    r"\b(?:sending|outgoing|outbound|daily|hourly|your|relay|smtp)(?: \w+){0,2} (?:quota|limit|allowance)s?\b"
)
_FULL_OR_BUSY = _any_of(
    rf"(?:{_PERSON}|\bmail ?drop|\b(?:mail ?)?folder|\bmail ?dir"
    rf"|\bstorage)[^.;,]{{0,30}}\bfull\b(?! (?:host|name|address|domain))",
    r"\bfull mail ?box|\bover(?:\W\w+){0,3}\W?quota\b",
    r"\bquota\b(?: \w+){0,3} (?:exceed|full\b|reached|used up|violat)",
    r"\bexceed\w*(?: \w+){0,4} (?:quota|storage)\b|\bmail ?box (?:size )?(?:limit|quota)",
    r"\bmail ?box (?:is )?too (?:large|big)|\btoo much mail(?: data)?\b|\b(?:disk|disc|storage) quota\b",
    rf"{_PERSON}[^.;,]{{0,40}}\breached\b[^.;,]{{0,30}}\b(?:limit|maximum|capacity)",
    r"\b(?:Postfach|Mailbox|Speicher\w*)\b[^.;]{0,30}\b(?:voll|erschöpft|überschritten)\b|\bbo[iî]te[^.;]{0,30}\bpleine\b",
    r"\bbuz[oó]n[^.;]{0,30}\bllen[oa]\b|\bcasella[^.;]{0,30}\bpiena\b|\bcaixa[^.;]{0,30}\bcheia\b|переполнен|いっぱい|容量|已满",
    rf"{_PERSON}[^.;,]{{0,30}}\b(?:exceed|(?:size|storage) limit|out of (?:storage|space))",
    rf"\b(?:no|insufficient|not enough)(?: \w+){{0,2}} (?:storage|space|room)\b[^.;]{{0,40}}{_PERSON}",
    rf"{_PERSON}[^.;]{{0,50}}\b(?:gets?|getting|receiv\w+)\b[^.;]{{0,30}}"
    r"\b(?:rate|too (?:fast|quickly|many|much|often))\b",
)
DISABLED = _any_of(
    rf"{_PERSON}[^.;,]{{0,40}}\b(?:disabled|inactive|deactivated|suspended|locked|frozen|dormant|closed|terminated"
    r"|discontinued|archived|expired|(?:not|no longer) (?:active|accept\w*)|(?:switched|turned) off)\b",
    rf"{_PERSON} (?:(?:is|has|was|been|currently) ){{0,3}}(?:blocked\b(?! (?:by|using|for))|on hold\b)",
    rf"\b(?:disabled|inactive|suspended|deactivated|locked|frozen|dormant|closed|terminated|expired"
    rf"|archived) (?:\w+ )?{_PERSON}",
    r"\b(?:for|due to) inactivity\b|\bmail ?box (?:is )?(?:busy|in use)\b",
    rf"{_PERSON} (?:(?:is|has|been) ){{0,2}}{TEMPORARY.pattern}",
)


def full_or_busy(words: str) -> bool:
    """Whether one person's quota, or the rate at which one person gets mail, is exceeded; not ours."""
    return bool(_FULL_OR_BUSY.search(_OUR_QUOTA.sub(" ", words)))


# ── Us ──────────────────────────────────────────────────────────────────────────────────────────────────────

SENDER_CHECK = _any_of(r"\bsender (?:address )?verif|\b(?:verif\w+|call-?(?:out|back))(?: \w+){0,3} sender\b")
TOO_LARGE = _any_of(
    r"\btoo (?:large|big|long)\b|\blarger than\b|\b(?:size|length)(?: \w+){0,2} (?:limit|exceed)",
    r"\b(?:max(?:imum)?|exceed\w*)(?: \w+){0,3} (?:size|length)\b",
)
MALFORMED = _any_of(
    r"\bmalformed\b|\bbare (?:LF|CR|line ?feed|newline|carriage)|\bnon-?compliant\b|\bnot compliant\b",
    r"\b(?:missing|duplicate|multiple|invalid|bad|illegal|broken)(?: or \w+)?"
    r" (?:(?:from|to|date|subject|message-id|mime)(?: or \w+)? )?(?:headers?|mime|line endings?)\b",
    r"\bline(?: is)? too long|\b(?:not|against|violates?)(?: \w+){0,2} RFC ?\d",
)
_OF_THE_CLIENT = (
    r"(?:ip|servers?|host ?(?:name)?|domain|network|isp|reputation|helo|sender|client|relay|connection|range)"
)
_MAIL = r"\b(?:messages?|mails?|e-?mails?|transaction|session|connections?|envelope|submission)\b"
_REFUSED = (
    r"\b(?:reject(?:ed|ing|s|ion)?|den(?:y|ied|ies)|discard(?:ed)?|dropped|not (?:be )?(?:accept|allow"
    r"|permit)(?:ed)?"
    r"|refus(?:e|es|ing|al)|(?<!connection )refused)\b"
)
US = _any_of(
    SENDER_CHECK.pattern,
    TOO_LARGE.pattern,
    MALFORMED.pattern,
    _OUR_QUOTA.pattern,
    # may we relay, who are we
    r"\b(?:not|no|never|cannot|can't|won't|unable|may|refus\w+|den(?:y|ied|ies))\b[^.;]{0,60}\brelay",
    r"\brcpthosts\b",
    r"\brelay(?:ing)?\b[^.;]{0,40}\b(?:denied|prohibited|not|refused|rejected|disallowed|forbidden)\b",
    r"\b(?:un)?authenticat|\b(?:un)?authori[sz]|\bcredential|\bpassword\b|\blog ?in (?:first|before)\b",
    r"\b(?:start ?)?tls\b",
    r"\bencrypt|\b(?:helo|ehlo)\b|\bfull host ?name|\bfqdn\b|\bfully[- ]qualified",
    r"\bclient(?: host| ip| address| name)?:? (?:\[|\d|(?:is|was|has|not)\b|reject|block|refus|den)",
    rf"\byour (?:mail )?{_OF_THE_CLIENT}\b",
    rf"\bfrom (?:this|that|such|your) (?:\w+ )?{_OF_THE_CLIENT}\b",
    r"\b(?:accept|take|want|allow)\w*(?: any)?(?: mails?)? from\b",
    r"\bno mails? from\b|\byou come from\b|\bname in DNS\b",
    r"\bip(?:v[46])?\b|\bptr\b|\breverse[- ](?:dns|look-?up|name|host)|\brdns\b",
    # the sender
    r"\b(?:your|unknown|invalid|forged|fake|bad|envelope) sender\b|\bsenders?'s?\b",
    r"\bsender (?:address|domain|ip|host|reputation|policy)\b",
    r"\bsender(?: \w+){0,3} (?:reject|refus|den|block|not\b|unknown|invalid|listed)",
    r"\bspoof|\bforg(?:ed|ery|ing)\b|\bimpersonat|\bspf\b|\bdkim\b|\bdmarc\b|\barc\b",
    # what they think of us and of what we send
    r"\b(?:block|black|deny|reject|drop)[- ]?list|\b(?:dns)?[bdr]n?s?bl\b",
    r"(?<!not )\blisted (?:at|by|on|in|with)\b",
    r"\bblock(?:ed|ing)?\b|\bbanned\b|\bspam|\bvirus|\bmalware|\bphish|\bunsolicited|\bsuspicious",
    r"\bmalicious|\bjunk\b|\bbulk\b",
    r"\babus(?:e|ive)\b|\bcomplain(?:ts?|ed)\b|\breputation\b|\bcontent\b|\battachment|\bheaders?\b",
    r"\bmessage-id\b",
    r"\b(?<!see our )(?<!see the )polic(?:y|ies)\b|\bprohibit|\bpermi(?:tted|ssion)|\b(?:not |dis)allow",
    r"\bforbidden\b|\brestrict|\baccess denied\b|\bmay not send\b|\bquarantin|\bfilter(?:s|ed|ing)?\b",
    r"\b(?:from|return|reply|envelope)[- ](?:address|path|domain|header|field)\b|\bmail from domain\b",
    r"\bhost ?name (?:is |was )?(?:invalid|unknown|not)\b|\binvalid host ?name\b"
    r"|\byour (?:e-?mail )?address\b",
    r"\b(?:white|allow)[- ]?list|\btoo many (?:invalid|unknown|bad|failed|incorrect)\b",
    r"^\W*(?:(?:access|request|permission) )?(?:denied|rejected|refused|declined|disallowed)\W*$",
    # our mail, or we, are refused
    rf"{_MAIL}[^.;:]{{0,40}}{_REFUSED}",
    rf"{_REFUSED}[^.;:]{{0,30}}{_MAIL}",
    r"\b(?:go away|not welcome|no thanks|get lost)\b|\b(?:null|empty|blank) (?:envelope )?(?:sender|from"
    r"|return)",
    r"\bbounces? (?:messages? )?(?:are |is )?not\b|\bexecutable\b|\bsending rate\b",
    # how we speak
    r"\bcommands? (?:\w+ )?(?:rejected|refused|unrecogni[sz]ed|unknown|out of)|\bbad sequence",
    r"\bprotocol (?:error|violation)",
    r"\bsyntax error|\bpipelining\b",
)
IP = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
"""A reply that names only the address of a host is about the client."""

# ── The address ─────────────────────────────────────────────────────────────────────────────────────────────

OFFICE_365_UNKNOWN = _any_of(r"\brecipient address rejected\b(?:: access denied\b)?")
NO_DOMAIN = _any_of(
    r"\bdomain(?:'s)?(?: name)?(?: \w+){0,3} (?:does(?: not|n't)|cannot) (?:exist|be found|resolve)",
    r"\bdomain(?: name)? (?:is |was )?(?:not found|not known|unknown|non-?existent)\b",
    r"\b(?:unknown|no such|non-?existent|invalid) domain\b|\bno (?:\w+ )?domain of (?:that|this) name",
    r"\b(?:unknown|no such) (?:host|mail domain)\b|\bhost (?:is )?unknown\b"
    r"|\brecipient(?:'s)? domain must exist\b",
    r"\bnxdomain\b|\bnull mx\b|\bno (?:mx|a)(?: or \w+)* records?\b",
)
TAKES_NO_MAIL = _any_of(r"\bdomain(?: \w+)? (?:does not|doesn't) (?:accept|take|receive) (?:any )?mail\b")
UNKNOWN = _any_of(
    NO_DOMAIN.pattern,
    TAKES_NO_MAIL.pattern,
    rf"{_PERSON}[^.;]{{0,40}}\b(?:unknown|invalid|gone|deleted|removed|rejected|non-?existent"
    r"|no longer|not a valid|(?:not|n't) (?:found|known|listed|local|here|our|valid|exist|be found"
    r"|recogni[sz]ed|in our|on our|a local))\b",
    r"\b(?:unknown|no such|invalid|non-?existent|bad|no valid)(?: local)? (?:destination )?"
    r"(?:user|account|mail ?box|in ?box|recipient|address(?:ee)?|person|customer|name|part|one|alias)\b",
    r"\bno (?:\w+ )?(?:user|account|mail ?box|person|recipient|one) (?:\w+ )?(?:here|by|of|with|called)\b",
    r"\bno (?:such )?(?:user|mail ?box)(?: for\b|\W*$)|\bnot on file\b",
    r"\bundeliverable address\b|\bunknown local[ -]?part\b|\bno longer (?:with|works|employed|valid"
    r"|in use)\b",
    r"\b(?:unbekannt|existiert nicht|inconnue?|n'existe pas|inexistant[es]*|desconocid[oa]|no existe"
    r"|sconosciut[oa]|inesistente"
    r"|non esiste|desconhecid[oa]|não existe|onbekend|bestaat niet)\b|не существует|не найден|неизвест|不存在"
    r"|无此用户"
    r"|存在しません|見つかりません|(?:宛|あて)先不明",
    r"\bnobody\b|\bnot a (?:known|valid|local) \w+",
    r"\bdoes(?: not|n't) (?:exist|have an? (?:\w+ )?account)\b|\bmoved\b",
)
