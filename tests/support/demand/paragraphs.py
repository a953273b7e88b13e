"""Short paragraphs in many languages, written for these tests, to make requests of."""

# ruff: noqa: RUF001, E501 - the letters of other alphabets are meant; some are wide

from collections.abc import Mapping

PARAGRAPHS: Mapping[str, str] = {
    "English": "The library opens at nine and closes at six, except on Sundays. Bring a card with your photograph; "
    "without one, you may read in the hall but cannot take books home. Late returns cost twenty cents a day.",
    "German": "Die Bibliothek öffnet um neun und schließt um sechs, außer sonntags. Bitte bringen Sie einen Ausweis "
    "mit; ohne ihn dürfen Sie im Lesesaal lesen, aber keine Bücher ausleihen. Die Überziehungsgebühr beträgt zwanzig Cent.",
    "French": "La bibliothèque ouvre à neuf heures et ferme à dix-huit heures, sauf le dimanche. Apportez une carte "
    "avec votre photo ; sans elle, vous pouvez lire dans la salle, mais vous n'emporterez aucun livre.",
    "Spanish": "La biblioteca abre a las nueve y cierra a las seis, excepto los domingos. Traiga una tarjeta con su "
    "fotografía; sin ella podrá leer en la sala, pero no llevarse libros. ¿Quién devuelve tarde? Paga veinte céntimos.",
    "Portuguese": "A biblioteca abre às nove e fecha às seis, exceto aos domingos. Traga um cartão com a sua "
    "fotografia; sem ele pode ler na sala, mas não levar livros. As devoluções atrasadas custam vinte cêntimos.",
    "Italian": "La biblioteca apre alle nove e chiude alle sei, tranne la domenica. Porti una tessera con la sua "
    "fotografia: senza, può leggere in sala ma non prendere libri in prestito. Perché? È il regolamento.",
    "Dutch": "De bibliotheek gaat om negen uur open en sluit om zes uur, behalve op zondag. Neem een pasje met uw foto "
    "mee; zonder pasje mag u in de zaal lezen, maar geen boeken meenemen.",
    "Polish": "Biblioteka jest czynna od dziewiątej do osiemnastej, z wyjątkiem niedziel. Proszę przynieść legitymację "
    "ze zdjęciem; bez niej można czytać w czytelni, ale nie wolno zabierać książek do domu.",
    "Czech": "Knihovna otevírá v devět a zavírá v šest, kromě neděle. Přineste si průkaz s fotografií; bez něj můžete "
    "číst ve studovně, ale knihy si domů odnést nesmíte. Zpožděné vrácení stojí dvacet haléřů denně.",
    "Hungarian": "A könyvtár kilenckor nyit és hatkor zár, vasárnap kivételével. Hozzon fényképes igazolványt; enélkül "
    "az olvasóteremben olvashat, de könyvet nem vihet haza. A késedelmes visszahozatal díja napi húsz fillér.",
    "Finnish": "Kirjasto avataan yhdeksältä ja suljetaan kuudelta sunnuntaita lukuun ottamatta. Ottakaa mukaan "
    "kuvallinen kortti; ilman sitä voitte lukea salissa, mutta ette saa viedä kirjoja kotiin.",
    "Swedish": "Biblioteket öppnar klockan nio och stänger klockan sex, utom på söndagar. Ta med ett kort med foto; "
    "utan det får du läsa i salen men inte låna hem böcker.",
    "Turkish": "Kütüphane pazar günleri dışında dokuzda açılır ve altıda kapanır. Fotoğraflı bir kart getirin; kartınız "
    "yoksa salonda okuyabilirsiniz ama kitapları eve götüremezsiniz.",
    "Vietnamese": "Thư viện mở cửa lúc chín giờ và đóng cửa lúc sáu giờ, trừ chủ nhật. Xin mang theo thẻ có ảnh; nếu "
    "không có thẻ, bạn có thể đọc trong phòng nhưng không được mượn sách về nhà.",
    "Indonesian": "Perpustakaan dibuka pukul sembilan dan ditutup pukul enam, kecuali hari Minggu. Bawalah kartu "
    "berfoto; tanpa kartu, Anda boleh membaca di ruangan tetapi tidak boleh membawa buku pulang.",
    "Russian": "Библиотека открывается в девять и закрывается в шесть, кроме воскресенья. Принесите билет с "
    "фотографией; без него можно читать в зале, но нельзя брать книги домой.",
    "Ukrainian": "Бібліотека відчиняється о дев'ятій і зачиняється о шостій, крім неділі. Принесіть квиток із "
    "фотографією; без нього можна читати в залі, але не можна брати книжки додому.",
    "Kazakh": "Кітапхана жексенбіден басқа күндері тоғызда ашылып, алтыда жабылады. Суреті бар билет алып келіңіз; "
    "онсыз залда оқуға болады, бірақ кітапты үйге алып кетуге болмайды.",
    "Greek": "Η βιβλιοθήκη ανοίγει στις εννέα και κλείνει στις έξι, εκτός από τις Κυριακές. Φέρτε μια κάρτα με τη "
    "φωτογραφία σας· χωρίς αυτήν μπορείτε να διαβάσετε στην αίθουσα, αλλά όχι να πάρετε βιβλία.",
    "Hebrew": "הספרייה נפתחת בתשע ונסגרת בשש, מלבד בימי ראשון. הביאו כרטיס עם תמונה; בלעדיו אפשר לקרוא באולם, אך אי "
    "אפשר לקחת ספרים הביתה.",
    "Arabic": "تفتح المكتبة في التاسعة وتغلق في السادسة ما عدا يوم الأحد. أحضر بطاقة عليها صورتك؛ من دونها يمكنك "
    "القراءة في القاعة، لكن لا يمكنك أخذ الكتب إلى البيت.",
    "Persian": "کتابخانه ساعت نه باز و ساعت شش بسته می‌شود، به جز یکشنبه‌ها. کارتی با عکس خود بیاورید؛ بدون آن می‌توانید "
    "در سالن بخوانید، اما نمی‌توانید کتاب به خانه ببرید.",
    "Hindi": "पुस्तकालय रविवार को छोड़कर नौ बजे खुलता है और छह बजे बंद होता है। अपनी तस्वीर वाला कार्ड लाएँ; उसके बिना "
    "आप कक्ष में पढ़ सकते हैं, पर किताबें घर नहीं ले जा सकते।",
    "Bengali": "গ্রন্থাগার রবিবার ছাড়া নয়টায় খোলে এবং ছয়টায় বন্ধ হয়। ছবিসহ একটি কার্ড আনুন; কার্ড ছাড়া আপনি ঘরে বসে "
    "পড়তে পারেন, কিন্তু বই বাড়ি নিয়ে যেতে পারবেন না।",
    "Tamil": "நூலகம் ஞாயிறு தவிர மற்ற நாட்களில் ஒன்பது மணிக்குத் திறந்து ஆறு மணிக்கு மூடப்படும். படத்துடன் கூடிய "
    "அட்டையைக் கொண்டு வாருங்கள்; அது இல்லாமல் புத்தகங்களை வீட்டிற்கு எடுத்துச் செல்ல முடியாது.",
    "Thai": "ห้องสมุดเปิดเวลาเก้าโมงและปิดเวลาหกโมงเย็น ยกเว้นวันอาทิตย์ กรุณานำบัตรที่มีรูปถ่ายมาด้วย "
    "หากไม่มีบัตร ท่านอ่านหนังสือในห้องได้ แต่ยืมกลับบ้านไม่ได้",
    "Chinese": "图书馆九点开门，六点关门，星期日除外。请携带有照片的证件；没有证件可以在阅览室里看书，但不能把书借回家。"
    "逾期归还每天收费两角。",
    "Chinese, traditional": "圖書館九點開門，六點關門，星期日除外。請攜帶有照片的證件；沒有證件可以在閱覽室裡看書，但不能把書借回家。",
    "Japanese": "図書館は日曜日を除いて九時に開き、六時に閉まります。写真のついたカードをお持ちください。カードがなくても"
    "閲覧室で読めますが、本を借りて帰ることはできません。",
    "Korean": "도서관은 일요일을 제외하고 아홉 시에 열고 여섯 시에 닫습니다. 사진이 있는 카드를 가져오세요. 카드가 없으면 "
    "열람실에서 읽을 수 있지만 책을 집으로 가져갈 수는 없습니다.",
    "Georgian": "ბიბლიოთეკა იხსნება ცხრა საათზე და იკეტება ექვსზე, კვირის გარდა. მოიტანეთ ბარათი ფოტოსურათით; "
    "უამისოდ შეგიძლიათ დარბაზში იკითხოთ, მაგრამ წიგნებს სახლში ვერ წაიღებთ.",
    "Armenian": "Գրադարանը բացվում է ժամը իննին և փակվում վեցին, բացի կիրակիից։ Բերեք լուսանկարով քարտ. առանց դրա կարող "
    "եք կարդալ դահլիճում, բայց գրքերը տուն տանել չի կարելի։",
    "Swahili": "Maktaba hufunguliwa saa tatu na kufungwa saa kumi na mbili, isipokuwa Jumapili. Leta kadi yenye picha; "
    "bila kadi unaweza kusoma ukumbini, lakini huwezi kuchukua vitabu nyumbani.",
}
